// The limit of memory that Linux's control groups set for this process: of its own group and of every group around it. cgroups(7),
// Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.

/// Where this process stands among control groups, and what limits its memory there.
struct ControlGroups {
  /// Reads a small system file; nil if it cannot be read.
  private let read: (String) -> String?

  init(_ read: @escaping (String) -> String?) { self.read = read }

  /// A file system of control groups.
  private struct Mount {
    /// The group that is mounted.
    let root: String
    /// Where.
    let place: String
    /// The file with a group's limit.
    let file: String
  }

  /// The least limit from the process's group upwards; nil without any. Both versions of control groups are asked.
  var memoryLimit: Int? {
    let mounts = mounts
    return (read("/proc/self/cgroup") ?? "").split(separator: "\n").compactMap { line -> Int? in
      // hierarchy:controllers:path; version 2 has neither number nor controllers.
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return nil }
      let isSecond = parts[0] == "0" && parts[1].isEmpty
      guard isSecond || parts[1].split(separator: ",").contains("memory") else { return nil }
      let file = isSecond ? "memory.max" : "memory.limit_in_bytes"
      return mounts.filter { $0.file == file }.compactMap { least(String(parts[2]), $0) }.min()
    }
    .min()
  }

  /// The mounts that can hold limits of memory. proc_pid_mountinfo(5): number, parent, device, root, place, options, optional fields,
  /// `-`, type, source, options of the file system.
  private var mounts: [Mount] {
    (read("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      guard words.count > 6, let dash = words[6...].firstIndex(of: "-"), dash + 3 < words.count else {
        return nil
      }
      let (root, place) = (ControlGroups.plain(words[3]), ControlGroups.plain(words[4]))
      switch words[dash + 1] {
      case "cgroup2": return Mount(root: root, place: place, file: "memory.max")
      case "cgroup" where words[dash + 3].split(separator: ",").contains("memory"):
        return Mount(root: root, place: place, file: "memory.limit_in_bytes")
      default: return nil
      }
    }
  }

  /// A path of mountinfo, in which blanks and backslashes are `\040` and `\134`.
  private static func plain(_ text: Substring) -> String {
    String(text).replacing("\\040", with: " ").replacing("\\134", with: "\\")
  }

  /// The least limit of a group and those above it, as far up as the mount shows them.
  private func least(_ group: String, _ mount: Mount) -> Int? {
    // A container may see its own group as the root of the mount, though the path is told from the host's.
    let inside =
      mount.root == "/"
      ? group
      : group == mount.root || group.hasPrefix(mount.root + "/")
        ? String(group.dropFirst(mount.root.count)) : ""
    var names = inside.split(separator: "/")
    var least: Int?
    while true {
      let path = ([mount.place] + names.map(String.init) + [mount.file]).joined(separator: "/")
      // `max`, and version 1's number beyond all memory, are no limits.
      let words = read(path)?.split(whereSeparator: \.isWhitespace)
      if let limit = words?.first.flatMap({ Int($0) }), limit < 1 << 60 { least = min(least ?? limit, limit) }
      guard names.popLast() != nil else { return least }
    }
  }
}
