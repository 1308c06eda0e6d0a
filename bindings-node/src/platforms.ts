/** Platforms that there are native modules for. */

/** Ends of package names, by what Node says about itself. */
export const PLATFORMS: Readonly<Record<string, string>> = {
  "linux x64 glibc": "linux-x64-gnu",
  "linux arm64 glibc": "linux-arm64-gnu",
  "linux x64 musl": "linux-x64-musl",
  "linux arm64 musl": "linux-arm64-musl",
  "darwin x64": "darwin-x64",
  "darwin arm64": "darwin-arm64",
  "win32 x64": "win32-x64-msvc",
  "win32 arm64": "win32-arm64-msvc",
};

function libc(): string {
  // The types of older versions of Node lack this.
  const report: NodeJS.ProcessReport & { excludeNetwork?: boolean | undefined } = process.report;
  const network = report.excludeNetwork;
  // Without this, the report looks up the names of all peers.
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime ? "glibc" : "musl";
  } finally {
    report.excludeNetwork = network;
  }
}

/** The platform of this process. */
export function platform(): string {
  const { platform: system, arch } = process;
  return system === "linux" ? `${system} ${arch} ${libc()}` : `${system} ${arch}`;
}
