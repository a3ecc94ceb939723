//! Webhooks and mail about runs.
