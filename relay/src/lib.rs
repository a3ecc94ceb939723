//! One image to many machines: frames, the plan of the chains, peers.
