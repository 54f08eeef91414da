"""What the verifier decides: SPF, DKIM, standing and schedule, as pure functions over DNS answers and time."""
