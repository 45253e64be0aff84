// Limits of memory of control groups, read from trees of files as systems have them.

import Testing

@testable import SmeltStorage

@Suite struct ControlGroupTests {
  private static let second =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
  private static let first =
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 master:2 - cgroup cgroup rw,memory\n"
    + "36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"

  /// The limit in a system of these files.
  private func limit(_ group: String, _ mounts: String, _ files: [String: String]) -> Int? {
    var files = files
    files["/proc/self/cgroup"] = group
    files["/proc/self/mountinfo"] = "22 1 8:1 / / rw - ext4 /dev/vda rw\n" + mounts
    return ControlGroups { files[$0] }.memoryLimit
  }

  @Test func theLeastLimitUpwardsCounts() {
    let tree = [
      "/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "1000000\n",
      "/sys/fs/cgroup/a/b/c/memory.max": "3000000\n",
    ]
    #expect(limit("0::/a/b/c\n", Self.second, tree) == 1_000_000)
    #expect(limit("0::/a/b\n", Self.second, tree) == 1_000_000)
    #expect(limit("0::/b\n", Self.second, tree) == nil)
    #expect(limit("0::/a/b/c\n", Self.second, ["/sys/fs/cgroup/a/b/c/memory.max": "7\n"]) == 7)
    // A container sees its own group as the root.
    #expect(limit("0::/\n", Self.second, ["/sys/fs/cgroup/memory.max": "5\n"]) == 5)
  }

  @Test func theFirstVersionIsAskedToo() {
    let tree = [
      "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    ]
    let groups = "5:cpu:/x\n4:hugetlb,memory:/a/b\n1:name=systemd:/\n"
    #expect(limit(groups, Self.first, tree) == 2000)
    #expect(limit("5:cpu:/a\n", Self.first, tree) == nil)
    #expect(limit("4:memory:/x\n", Self.first, tree) == nil)
    let both = tree.merging(["/sys/fs/cgroup/unified/q/memory.max": "900\n"]) { $1 }
    let unified = Self.second.replacing("/sys/fs/cgroup ", with: "/sys/fs/cgroup/unified ")
    #expect(limit(groups + "0::/q\n", Self.first + unified, both) == 900)
  }

  @Test func pathsOfTheHostAreTakenFromTheMount() {
    let mount = Self.second.replacing(" / /sys", with: " /docker/x\\040y /sys")
    let tree = ["/sys/fs/cgroup/memory.max": "10\n", "/sys/fs/cgroup/in/memory.max": "20\n"]
    #expect(limit("0::/docker/x y/in\n", mount, tree) == 10)
    #expect(limit("0::/docker/x y\n", mount, tree) == 10)
    #expect(limit("0::/elsewhere\n", mount, tree) == 10)
  }

  @Test func nothingIsReadIntoOddFiles() {
    #expect(limit("", Self.second, [:]) == nil)
    #expect(limit("0::/a\n:::\nx\n", "a b c - d\n\n-\n1 2 3 4 5 6 -\n", [:]) == nil)
    #expect(limit("0::/a\n", Self.second, ["/sys/fs/cgroup/a/memory.max": "lots\n"]) == nil)
    #expect(limit("0::/../a\n", Self.second, ["/sys/fs/cgroup/memory.max": "4 5\n"]) == 4)
  }

  @Test func thisMachineAnswers() {
    let bytes = availableMemoryBytes()
    #expect(bytes ?? 1 > 0)
  }
}
