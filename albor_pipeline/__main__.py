"""`python -m albor_pipeline` is `albor-pipeline`."""

from albor_pipeline.cli import entry

if __name__ == "__main__":
    entry()
