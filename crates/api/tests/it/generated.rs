//! `src/generated/rpc.rs` is what `proto/coordinator.proto` says.
//!
//! With `MARBLERUN_REGENERATE` set (`cargo xtask generate` does that) the file is written instead of compared.

use std::path::Path;

fn generate() -> String {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let descriptors = protox::compile(["coordinator.proto"], [&proto]).expect("the definition compiles");
    let out = std::env::temp_dir().join(format!("marblerun-api-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    prost_build::Config::new()
        .btree_map(["."])
        // Parameters hold secrets; their redacted form is written by hand.
        .skip_debug([".rpc.Parameters"])
        .out_dir(&out)
        .compile_fds(descriptors)
        .expect("the messages can be generated");
    let text = std::fs::read_to_string(out.join("rpc.rs")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    text
}

#[test]
fn generated_messages_match_the_definition() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated/rpc.rs");
    let expected = generate();
    if std::env::var_os("MARBLERUN_REGENERATE").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == expected, "{} is out of date: run `cargo xtask generate`", path.display());
}
