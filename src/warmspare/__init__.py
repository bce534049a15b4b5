"""warmspare keeps a warm spare of VMware virtual machines in AWS."""

__version__ = "0.1.0"
