"""What a program can ask for, as values: `import warmspare`. The command line asks by it too."""
