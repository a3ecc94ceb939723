//! Modules of a kernel by what `depmod` wrote about them: for the kernel that runs here, and for that of a tree.

pub mod firmware;
mod glob;
mod index;

pub use index::{Index, Step, module_of, normal};
