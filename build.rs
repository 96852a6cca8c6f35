//! Compiles `proto/onnx.proto` without protoc.
//!
//! rust-protobuf's pure parser reads the schema; prost turns its descriptors into the product's types, and rust-protobuf
//! generates a second, independent decoder that only the tests include.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;
use protobuf::Message as _;

const SCHEMA: &str = "proto/onnx.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SCHEMA}");
    println!("cargo::rerun-if-changed=build.rs");

    let parsed = protobuf_parse::Parser::new()
        .pure()
        .include("proto")
        .input(SCHEMA)
        .file_descriptor_set()?;
    let descriptors = prost_types::FileDescriptorSet::decode(parsed.write_to_bytes()?.as_slice())?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)?;

    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let second = out_dir.join("second");
    std::fs::create_dir_all(&second)?;
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input(SCHEMA)
        .out_dir(&second)
        .run()?;
    // The generated file opens with inner attributes, which `include!` cannot take; the test includes this copy instead.
    let generated = std::fs::read_to_string(second.join("onnx.rs"))?;
    let body: String = generated
        .lines()
        .filter(|line| !line.starts_with("#![") && !line.starts_with("//!"))
        .flat_map(|line| [line, "\n"])
        .collect();
    std::fs::write(second.join("onnx_body.rs"), body)?;
    Ok(())
}
