"""What users say about answers: corrections and votes, as files."""
