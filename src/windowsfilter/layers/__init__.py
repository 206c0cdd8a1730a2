"""What a layer is, apart from its content: ids, records, and files that survive a power cut."""
