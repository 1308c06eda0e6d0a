//! The C and C++ client: installed into a temporary prefix and used from there as a program would, by pkg-config and by CMake, shared
//! and static; its own tests, also under AddressSanitizer, LeakSanitizer and valgrind; and wrong programs that must be caught.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, bail, ensure};

use crate::live::{Scratch, Server};
use crate::tree;

/// What every program is compiled with.
const STRICT: &[&str] = &["-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror"];
const SANITIZED: &[&str] = &["-fsanitize=address,leak", "-fno-omit-frame-pointer"];
/// Languages the header must be clean in.
const DIALECTS: &[(&str, &str, &str)] = &[
    ("cc", "-std=c99", "examples/blocking.c"),
    ("cc", "-std=c11", "examples/blocking.c"),
    ("cc", "-std=c2x", "examples/blocking.c"),
    ("c++", "-std=c++17", "examples/tour.cpp"),
    ("c++", "-std=c++20", "examples/tour.cpp"),
];
const TESTS: &[&str] = &[
    "tests/layout.c",
    "tests/calls.c",
    "tests/cancel.c",
    "tests/close.c",
    "tests/lost.c",
    "tests/process.c",
    "tests/fork.c",
];
const EXAMPLES: &[&str] = &["examples/blocking.c", "examples/epoll.c", "examples/tour.cpp"];
/// Under a sanitizer; a child of fork has none of its threads, so that test is left out.
const SANITIZED_PROGRAMS: &[&str] = &[
    "tests/calls.c",
    "tests/cancel.c",
    "tests/close.c",
    "tests/lost.c",
    "tests/process.c",
    "examples/blocking.c",
    "examples/epoll.c",
    "examples/tour.cpp",
];
const VALGRIND_PROGRAMS: &[&str] = &["tests/calls.c", "examples/blocking.c", "examples/tour.cpp"];
/// Wrong programs that a typed error tells.
const TOLD: &[&str] =
    &["null", "struct_size", "flags", "use_after_close", "batch_after_free", "another_type", "two_receives"];
/// Wrong programs that end, with what is said then.
const CAUGHT: &[(&str, &str)] = &[
    ("double_free", "no live levada_batch_t"),
    ("leak", "detected memory leaks"),
    ("slice_after_free", "heap-use-after-free"),
];

type Check<'a> = (String, Box<dyn Fn() -> anyhow::Result<()> + 'a>);

/// Tests the library that lies in `libraries` (liblevada.so, liblevada.a) with the server that lies in `binaries`; gives how many
/// checks passed and failed.
///
/// # Errors
/// A tool is missing, with its name; the library cannot be installed.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn build_and_test(libraries: &Path, binaries: &Path) -> anyhow::Result<(u64, u64)> {
    for tool in ["cc", "c++", "cmake", "pkg-config", "nm", "readelf", "valgrind"] {
        let found = Command::new(tool).arg("--version").output();
        ensure!(
            found.is_ok_and(|output| output.status.success()),
            "{tool} is missing: install gcc, binutils, cmake, pkg-config and valgrind"
        );
    }
    let scratch = Scratch::new(&std::env::temp_dir(), "c")?;
    let client = Client { binaries: binaries.to_owned(), scratch };
    let installed = Command::new(client.source("install.sh"))
        .arg(client.prefix())
        .env("LEVADA_LIB_DIR", libraries)
        .env_remove("DESTDIR")
        .status()?;
    ensure!(installed.success(), "bindings-c/install.sh ends with {installed}");
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in client.checks() {
        match check() {
            Ok(()) => passed += 1,
            Err(error) => {
                failed += 1;
                println!("c: {name}: {error:#}");
            }
        }
    }
    println!("c: {passed} passed, {failed} failed");
    Ok((passed, failed))
}

/// The client as installed.
struct Client {
    binaries: PathBuf,
    scratch: Scratch,
}

impl Client {
    fn prefix(&self) -> PathBuf {
        self.scratch.path.join("prefix")
    }

    fn source(&self, name: &str) -> PathBuf {
        tree::root().join("bindings-c").join(name)
    }

    fn checks(&self) -> Vec<Check<'_>> {
        let mut checks: Vec<Check<'_>> = vec![
            ("exports what symbols.txt says".into(), Box::new(|| self.exports())),
            ("has its name and stays loaded".into(), Box::new(|| self.dynamic_section())),
            ("the quick start works as written".into(), Box::new(|| self.quick_start())),
        ];
        for (compiler, dialect, source) in DIALECTS {
            let check = move || self.compile(compiler, source, &[dialect, "-pedantic", "-fsyntax-only"]).map(drop);
            checks.push((format!("the header is clean in {dialect}"), Box::new(check)));
        }
        for is_static in [false, true] {
            let kind = if is_static { "static" } else { "shared" };
            checks.push((format!("pkg-config, {kind}"), Box::new(move || self.by_pkg_config(is_static))));
            checks.push((format!("find_package, {kind}"), Box::new(move || self.by_cmake(is_static))));
        }
        for source in TESTS.iter().chain(EXAMPLES) {
            checks.push(((*source).to_owned(), Box::new(move || self.succeeds(source, &[], &[]))));
        }
        for source in SANITIZED_PROGRAMS {
            checks.push((format!("{source}, sanitized"), Box::new(move || self.succeeds(source, SANITIZED, &[]))));
        }
        for source in VALGRIND_PROGRAMS {
            let valgrind =
                &["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"];
            checks.push((format!("{source} under valgrind"), Box::new(move || self.succeeds(source, &[], valgrind))));
        }
        for name in TOLD {
            checks.push((format!("misuse {name}"), Box::new(move || self.misuse(name, None))));
        }
        for (name, words) in CAUGHT {
            checks.push((format!("misuse {name}"), Box::new(move || self.misuse(name, Some(words)))));
        }
        checks
    }

    fn exports(&self) -> anyhow::Result<()> {
        let listed =
            said(Command::new("nm").args(["-D", "--defined-only"]).arg(self.prefix().join("lib/liblevada.so")))?;
        let mut found: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        found.sort_unstable();
        let symbols = std::fs::read_to_string(self.source("symbols.txt"))?;
        let wanted: Vec<&str> = symbols.lines().collect();
        let gone: Vec<&&str> = wanted.iter().filter(|name| !found.contains(name)).collect();
        let new: Vec<&&str> = found.iter().filter(|name| !wanted.contains(name)).collect();
        ensure!(gone.is_empty() && new.is_empty(), "gone (raise LEVADA_ABI_VERSION): {gone:?}; new: {new:?}");
        ensure!(found.iter().all(|name| name.starts_with("levada_")), "something else than levada_* is exported");
        Ok(())
    }

    fn dynamic_section(&self) -> anyhow::Result<()> {
        let told = said(Command::new("readelf").arg("-d").arg(self.prefix().join("lib/liblevada.so")))?;
        let header = std::fs::read_to_string(self.prefix().join("include/levada.h"))?;
        let abi = header.lines().find_map(|line| line.strip_prefix("#define LEVADA_ABI_VERSION "));
        let name = format!("[liblevada.so.{}]", abi.context("the header has no LEVADA_ABI_VERSION")?);
        ensure!(told.contains(&name), "the SONAME is not {name}");
        ensure!(told.contains("NODELETE"), "the library may be unloaded while its threads run");
        Ok(())
    }

    /// The program of README.md, compiled by the command of README.md.
    fn quick_start(&self) -> anyhow::Result<()> {
        let page = std::fs::read_to_string(self.source("README.md"))?;
        let only = |language: &str| tree::fenced_blocks(&page, language).into_iter().next().map(|(_, text)| text);
        let program = only("c").context("README.md has no program in C")?;
        let command =
            page.lines().find(|line| line.starts_with("cc ")).context("README.md has no line that compiles")?;
        let folder = self.scratch.path.join("quick-start");
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("first.c"), program)?;
        let mut build = Command::new("sh");
        build.args(["-euc", command]).current_dir(&folder).env("PKG_CONFIG_PATH", self.prefix().join("lib/pkgconfig"));
        succeeded(&build.status()?, "compiling")?;
        self.run(&folder.join("first"), &[], &[]).and_then(|(status, text)| succeeded(&status, &text))
    }

    /// Compiles a source against the shared library; gives the program.
    fn compile(&self, compiler: &str, source: &str, options: &[&str]) -> anyhow::Result<PathBuf> {
        let name = format!("{}-{}", source.replace(['/', '.'], "-"), options.len());
        let program = self.scratch.path.join(name);
        let lib = self.prefix().join("lib");
        let mut command = Command::new(compiler);
        command.args(STRICT).args(options).arg(format!("-I{}", self.prefix().join("include").display()));
        command.arg("-o").arg(&program).arg(self.source(source));
        if !options.contains(&"-fsyntax-only") {
            command.arg(format!("-L{}", lib.display())).args(["-llevada", "-lpthread"]);
            command.arg(format!("-Wl,-rpath,{}", lib.display()));
        }
        succeeded(&command.status().context(compiler.to_owned())?, "compiling")?;
        Ok(program)
    }

    /// Runs a program with a server of its own; gives its status, and what it said.
    fn run(&self, program: &Path, arguments: &[&str], under: &[&str]) -> anyhow::Result<(ExitStatus, String)> {
        let home = Scratch::new(&self.scratch.path, "server")?;
        let server = Server::start(&self.binaries, &home.path, "127.0.0.1:0")?;
        let mut command = match under {
            [] => server.command(program),
            [first, rest @ ..] => {
                let mut command = server.command(first);
                command.args(rest).arg(program);
                command
            }
        };
        let output = command.args(arguments).output().with_context(|| format!("run {}", program.display()))?;
        drop(server);
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status, String::from_utf8_lossy(&text).into_owned()))
    }

    fn succeeds(&self, source: &str, options: &[&str], under: &[&str]) -> anyhow::Result<()> {
        let (compiler, dialect) = if source.ends_with(".c") { ("cc", "-std=c11") } else { ("c++", "-std=c++17") };
        let program = self.compile(compiler, source, &[&[dialect], options].concat())?;
        let (status, text) = self.run(&program, &[], under)?;
        succeeded(&status, &text)
    }

    /// A wrong program: it says that an error told it, or it ends with those words.
    fn misuse(&self, name: &str, words: Option<&str>) -> anyhow::Result<()> {
        let program = self.compile("cc", "tests/misuse.c", &[&["-std=c11"], SANITIZED].concat())?;
        let (status, text) = self.run(&program, &[name], &[])?;
        match words {
            None => succeeded(&status, &text),
            Some(words) => {
                ensure!(!status.success(), "nobody noticed");
                ensure!(text.contains(words), "it ends, but not for {words:?}: {text}");
                Ok(())
            }
        }
    }

    fn by_pkg_config(&self, is_static: bool) -> anyhow::Result<()> {
        let flags = |words: &[&str]| {
            let mut command = Command::new("pkg-config");
            said(command.args(words).arg("levada").env("PKG_CONFIG_PATH", self.prefix().join("lib/pkgconfig")))
        };
        let program = self.scratch.path.join(if is_static { "packaged-static" } else { "packaged-shared" });
        let mut command = Command::new("cc");
        command.args(STRICT).arg("-o").arg(&program).arg(self.source("examples/blocking.c"));
        command.args(flags(&["--cflags"])?.split_whitespace());
        if is_static {
            let libraries = flags(&["--static", "--libs"])?.replace("-llevada", "-l:liblevada.a");
            command.args(libraries.split_whitespace());
        } else {
            command.args(flags(&["--libs"])?.split_whitespace());
            command.arg(format!("-Wl,-rpath,{}", flags(&["--variable=libdir"])?.trim()));
        }
        succeeded(&command.status()?, "compiling")?;
        self.is_linked(&program, is_static)?;
        self.run(&program, &[], &[]).and_then(|(status, text)| succeeded(&status, &text))
    }

    fn by_cmake(&self, is_static: bool) -> anyhow::Result<()> {
        let target = if is_static { "levada::levada-static" } else { "levada::levada" };
        let folder = self.scratch.path.join(if is_static { "cmake-static" } else { "cmake-shared" });
        std::fs::create_dir(&folder)?;
        let sources = [self.source("examples/blocking.c"), self.source("examples/tour.cpp")]
            .map(|path| path.display().to_string());
        let lists = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(consumer C CXX)\nset(CMAKE_CXX_STANDARD 17)\n\
             find_package(levada 0.1 REQUIRED)\nadd_executable(in_c {})\ntarget_link_libraries(in_c {target})\n\
             add_executable(in_cpp {})\ntarget_link_libraries(in_cpp {target})\n",
            sources[0], sources[1],
        );
        std::fs::write(folder.join("CMakeLists.txt"), lists)?;
        let prefix = format!("-DCMAKE_PREFIX_PATH={}", self.prefix().display());
        said(Command::new("cmake").args(["-S", ".", "-B", "build", &prefix]).current_dir(&folder))?;
        said(Command::new("cmake").args(["--build", "build"]).current_dir(&folder))?;
        for program in ["build/in_c", "build/in_cpp"].map(|name| folder.join(name)) {
            self.is_linked(&program, is_static)?;
            let (status, text) = self.run(&program, &[], &[])?;
            succeeded(&status, &text)?;
        }
        Ok(())
    }

    fn is_linked(&self, program: &Path, is_static: bool) -> anyhow::Result<()> {
        let needs = said(Command::new("readelf").arg("-d").arg(program))?.contains("liblevada.so");
        ensure!(needs != is_static, "{} is linked the other way", program.display());
        Ok(())
    }
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} ends with {}: {}",
            command.get_program().display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn succeeded(status: &ExitStatus, said: &str) -> anyhow::Result<()> {
    ensure!(status.success(), "{status}: {said}");
    Ok(())
}
