//! Compiles `proto/onnx.proto` without protoc.
//!
//! rust-protobuf's pure parser reads the schema; prost turns its descriptors into the product's types, and rust-protobuf
//! generates a second, independent decoder that only the tests include. The same descriptors become the field table by
//! which `format::wire` tells known fields from unknown ones.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
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
    let descriptors = FileDescriptorSet::decode(parsed.write_to_bytes()?.as_slice())?;
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out_dir.join("wire_schema.rs"), wire_schema(&descriptors)?)?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;

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

/// The field table: one row a message, in it one row a field in ascending order of numbers.
fn wire_schema(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut messages = Vec::new();
    for file in &descriptors.file {
        let package = format!(".{}", file.package());
        for message in &file.message_type {
            collect(&package, message, &mut messages);
        }
    }
    let mut table = String::from("static MESSAGES: &[Message] = &[\n");
    for (name, message) in &messages {
        let mut fields: Vec<_> = message.field.iter().enumerate().collect();
        fields.sort_by_key(|(_, field)| field.number());
        writeln!(table, "    Message {{ name: {:?}, fields: &[", message.name())?;
        for (position, field) in fields {
            let kind = match field.r#type() {
                Type::Message => {
                    let target = messages.iter().position(|(other, _)| other == field.type_name());
                    format!(
                        "Kind::Message({})",
                        target.ok_or_else(|| format!("{name}: {} is not known", field.type_name()))?
                    )
                }
                Type::String => "Kind::Text".to_owned(),
                Type::Bytes => "Kind::Bytes".to_owned(),
                Type::Float | Type::Fixed32 | Type::Sfixed32 => "Kind::Fixed32".to_owned(),
                Type::Double | Type::Fixed64 | Type::Sfixed64 => "Kind::Fixed64".to_owned(),
                Type::Group => return Err(format!("{name}: groups are not supported").into()),
                _ => "Kind::Varint".to_owned(),
            };
            // Members of a oneof share a slot: only one of them may be present.
            let slot = match field.oneof_index {
                Some(oneof) => message.field.len() + usize::try_from(oneof)?,
                None => position,
            };
            writeln!(
                table,
                "        Field {{ number: {}, name: {:?}, kind: {kind}, repeated: {}, slot: {slot} }},",
                field.number(),
                field.name(),
                field.label() == Label::Repeated,
            )?;
        }
        table.push_str("    ] },\n");
    }
    table.push_str("];\n");
    let root = messages
        .iter()
        .position(|(name, _)| name == ".onnx.ModelProto")
        .ok_or("the schema has no ModelProto")?;
    writeln!(table, "const MODEL: usize = {root};")?;
    let slots = messages
        .iter()
        .map(|(_, m)| m.field.len() + m.oneof_decl.len())
        .max()
        .unwrap_or(0);
    writeln!(table, "const SLOTS: usize = {slots};")?;
    Ok(table)
}

fn collect<'a>(scope: &str, message: &'a DescriptorProto, messages: &mut Vec<(String, &'a DescriptorProto)>) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, messages);
    }
    messages.push((name, message));
}
