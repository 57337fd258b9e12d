"""Who is paid for a call: what every provider has to say of itself, and a folder for each."""
