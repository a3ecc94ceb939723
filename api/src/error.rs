//! What every answer is that is not what was asked for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why it was not done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ErrorBody {
    /// A sentence for people: the act, the object, the cause.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
