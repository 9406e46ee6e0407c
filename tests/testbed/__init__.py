"""Machines that are real to whoever reaches them over SSH: own disk, processes, network, uptime, sshd and systemd."""
