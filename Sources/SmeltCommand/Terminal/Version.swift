// What `--version` says.

import CBuild
import SmeltPipeline
import SmeltStorage

/// Version, commit, instruction set and the version of zstd.
enum Version {
  static var text: String {
    let commit = String(cString: sk_build_commit())
    var table = Table(["", ""])
    table.add(["commit", commit.isEmpty ? "not said (a build from source)" : commit])
    table.add(["instruction set", InstructionSet.current])
    table.add(["zstd", zstdVersion])
    return "smelt \(smeltVersion)\n\(table.text)"
  }
}
