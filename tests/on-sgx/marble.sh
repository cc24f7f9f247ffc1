check_marble() { :; }
