"""The verbs as a user types them; a failed comparison in builder.py is shown as pytest shows one in a test."""

import pytest

pytest.register_assert_rewrite("cli.builder")
