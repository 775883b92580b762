"""What runs the processors: in process, transactional on Kafka, Faust; recovery and verification."""
