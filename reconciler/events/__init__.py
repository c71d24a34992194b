"""Events: received, stored, filtered and routed to stages; missed deliveries are recovered."""
