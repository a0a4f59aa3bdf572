"""The services of the SDKs that are compiled."""
