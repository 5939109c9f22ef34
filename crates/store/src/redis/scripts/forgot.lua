-- Whether what the store keeps for a time may be gone.
return {0, not fixed_clock and forgot() and 1 or 0}
