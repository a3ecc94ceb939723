//! The formats that an image may have.

/// What sort of image a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// With an index: `docs/image-format.md`.
    Pitstop,
    Gzip,
    Xz,
    Zstd,
    Raw,
}
