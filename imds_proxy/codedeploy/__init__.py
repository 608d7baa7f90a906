"""The CodeDeploy agent of a machine that is not at AWS: its files, its registration, and whether it would deploy."""
