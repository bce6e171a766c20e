"""Other projects' samples and programs as evidence: what is compared, and how."""
