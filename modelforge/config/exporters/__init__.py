"""Our settings as files of other systems, with what they cannot say."""
