//! Users, roles, passwords, sessions and tokens.
