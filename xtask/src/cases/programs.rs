//! Programs that several cases use, with the settings that matter to them.

use super::lab::{Lab, Side};
use anyhow::Result;
use std::path::Path;

/// The web server's port.
pub(super) const HTTP: u16 = 80;

/// Where nginx listens when it stands before another server.
pub(super) const PROXY: u16 = 8080;

/// Apache's load generator.
pub(super) const AB: &str = "/usr/bin/ab";

/// Starts nginx with one worker in the foreground. `server` is what stands in
/// its `server` block; its error log is its log in the lab.
pub(super) fn nginx(lab: &Lab, side: &Side, server: &str) -> Result<u32> {
    let directory = lab.directory.join(format!("nginx-{}", side.netns));
    std::fs::create_dir(&directory)?;
    let own = directory.display();
    // Its temporary files would else go where Debian's nginx keeps its own.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {own}/{what};\n"))
        .concat();
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {own}/pid; error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         worker_rlimit_nofile 8192;\n\
         http {{ access_log off;\n{temporary}server {{ {server} }} }}\n"
    );
    let configuration = lab.file(&format!("nginx-{}.conf", side.netns), &text)?;
    lab.start(
        side,
        Path::new("/usr/sbin/nginx"),
        &["-c", &configuration.display().to_string(), "-e", "stderr"],
    )
}

/// A web server in the server's namespace; `settings` go into its `server` block.
pub(super) fn web_server(lab: &Lab, settings: &str) -> Result<()> {
    let server = format!("listen {HTTP}; {settings} location / {{ return 200 \"hello\\n\"; }}");
    nginx(lab, &lab.server, &server)?;
    lab.server.await_listener(HTTP)
}

/// The web server's address.
pub(super) fn url(lab: &Lab) -> String {
    format!("http://{}:{HTTP}/", lab.server.ip)
}
