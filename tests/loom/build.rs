//! Sets `cfg(loom)`, by which `src/sync.rs` takes loom's locks and atomics.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-cfg=loom");
}
