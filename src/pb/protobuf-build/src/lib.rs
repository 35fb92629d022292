//! Stands in for the `protobuf-build` crate that `raft-proto` calls from its build script.
//!
//! The original runs a bundled `protoc`, of which there is none for some machines (ARM Macs), and
//! its code refuses enum numbers that it does not know, so that a leader would drop etcd's
//! `AddLearnerNode`. This one has the same calls, runs `protobuf-codegen-pure`, and keeps unknown
//! numbers. Only what `raft-proto` 0.7 uses is here.

use std::{env, fs, path::PathBuf};

use protobuf_codegen_pure::{Codegen, Customize};

/// Collects the `.proto` files and writes one Rust module a file, as the original does.
#[derive(Default)]
pub struct Builder {
    files: Vec<PathBuf>,
    includes: Vec<String>,
}

impl Builder {
    /// Returns a builder without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every `.proto` file of a folder.
    pub fn search_dir_for_protos(&mut self, dir: &str) -> &mut Self {
        let entries = fs::read_dir(dir).expect("the folder of .proto files can be read");
        let paths = entries.map(|entry| entry.expect("an entry can be read").path());
        self.files.extend(paths.filter(|path| path.extension().is_some_and(|e| e == "proto")));
        self.files.sort();
        self
    }

    /// Sets the folders in which imports are looked for.
    pub fn includes(&mut self, dirs: &[String]) -> &mut Self {
        self.includes = dirs.to_vec();
        self
    }

    /// Does nothing: `eraftpb.proto` imports no file of Google's.
    pub fn include_google_protos(&mut self) -> &mut Self {
        self
    }

    /// Writes `OUT_DIR/protos/mod.rs` and a file for each `.proto`.
    pub fn generate(&self) {
        let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("protos");
        fs::create_dir_all(&out).expect("the output folder can be made");
        Codegen::new()
            .out_dir(&out)
            .inputs(&self.files)
            .includes(&self.includes)
            .customize(Customize {
                generate_accessors: Some(true),
                carllerche_bytes_for_bytes: Some(true),
                gen_mod_rs: Some(false),
                ..Customize::default()
            })
            .run()
            .expect("the .proto files are valid");
        let stems = self.files.iter().map(|file| file.file_stem().expect("has a name").to_string_lossy());
        let modules: String = stems.map(|stem| format!("pub mod {stem};\n")).collect();
        fs::write(out.join("mod.rs"), modules).expect("mod.rs can be written");
    }
}
