//! What an operator wants to be told, for whoever subscribes.
