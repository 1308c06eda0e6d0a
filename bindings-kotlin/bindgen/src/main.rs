//! Writes the Kotlin side of the boundary and puts the library where a jar carries it: `levada-kotlin-bindgen LIBRARY OUT`.
//!
//! OUT gets `kotlin/` (sources) and `native/` (resources: the library at the path under which JNA looks for it). LIBRARY may be
//! left out: then it is the one beside this program, where cargo puts both.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use uniffi::{GenerateOptions, TargetLanguage};

const USAGE: &str = "levada-kotlin-bindgen OUT [LIBRARY]";

/// Where `CallMemory` takes over the native memory of a call's structures: what UniFFI writes, and what stands there instead.
const CALL_MEMORY: &[(&str, &str)] = &[
    (
        "    var status = UniffiRustCallStatus()
    val return_value = callback(status)
    uniffiCheckCallStatus(errorHandler, status)
    return return_value
",
        "    val memory = CallMemory.get()
    val mark = memory.mark()
    try {
        val status = memory.status()
        val return_value = callback(status)
        uniffiCheckCallStatus(errorHandler, status)
        memory.keep(status)
        return return_value
    } finally {
        memory.release(mark)
    }
",
    ),
    (
        "        }.also {
            if(it.data == null) {",
        "        }.also {
            CallMemory.get().lower(it)
            if(it.data == null) {",
    ),
    (
        "_rustbuffer_free(buf, status)
        }
",
        "_rustbuffer_free(buf, status)
        }.also { CallMemory.free(buf) }
",
    ),
];

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().context(USAGE)?;
    let library = arguments.next().map_or_else(beside, Ok)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../uniffi.toml");
    uniffi::generate(GenerateOptions {
        languages: vec![TargetLanguage::Kotlin],
        source: text(&library)?.into(),
        out_dir: text(&out.join("kotlin"))?.into(),
        config_override: Some(text(&config)?.into()),
        ..GenerateOptions::default()
    })
    .with_context(|| format!("cannot read {}", library.display()))?;
    take_over_memory(&out.join("kotlin/dev/levada/internal/levada_kotlin.kt"))?;
    let native = out.join("native").join(jna_platform());
    fs::create_dir_all(&native)?;
    fs::copy(&library, native.join(library_name())).with_context(|| format!("cannot copy {}", library.display()))?;
    Ok(())
}

fn take_over_memory(source: &Path) -> Result<()> {
    let mut text = fs::read_to_string(source).with_context(|| format!("read {}", source.display()))?;
    for (written, wanted) in CALL_MEMORY {
        ensure!(text.matches(written).count() == 1, "UniFFI does not write this once any more: {written}");
        text = text.replace(written, wanted);
    }
    Ok(fs::write(source, text)?)
}

fn library_name() -> String {
    format!("{}levada_kotlin{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)
}

/// The library that cargo put beside this program.
fn beside() -> Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.parent().context("a program lies in a folder")?.join(library_name()))
}

/// What JNA calls this machine.
fn jna_platform() -> String {
    let system = match env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let processor = match env::consts::ARCH {
        "x86_64" => "x86-64",
        other => other,
    };
    format!("{system}-{processor}")
}
