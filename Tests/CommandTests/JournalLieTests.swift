// A journal that was changed, every checksum made right: nothing of it is believed that plan, source and files do not bear out.

import SmeltStorage
import SmeltTestSupport
import Testing

/// A conversion that found no more room, and what it left.
private final class Stopped {
  let shell: Shell
  let command: String
  let header: JSON
  let entries: [JSON]
  private let files: [(name: String, bytes: [UInt8])]

  /// Runs a command until no file may grow beyond so many blocks of 512 bytes, as on a full disk.
  init(_ command: String, blocks: Int) throws {
    let shell = Shell()
    self.shell = shell
    self.command = command
    let outcome = try shell.run("ulimit -f \(blocks); smelt \(command)")
    #expect(outcome.exit == 74 && outcome.stderr.contains("--resume"), "\(outcome.stderr)")
    let left = try #require(try Journal.read(shell.file("x.ingot.journal")))
    (header, entries) = (left.header, left.entries)
    var files: [(String, [UInt8])] = []
    for name in try shell.names() where name.hasPrefix("x") && !name.hasSuffix(".lock") {
      files.append((name, try MappedFile(path: shell.file(name)).bytes.array))
    }
    self.files = files
  }

  /// Puts everything back.
  func restore() { for (name, bytes) in files { putFile(shell.file(name), bytes) } }

  /// Writes a journal of other entries, resumes, and expects a refusal that changes nothing.
  func refused(
    _ entries: [JSON], _ what: String, orDamage: Bool = false,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    do { _ = try Journal(creating: shell.file("x.ingot.journal"), header: header, entries) }
    let lie = try MappedFile(path: shell.file("x.ingot.journal")).bytes.array
    let outcome = try shell.run("smelt \(command) --resume")
    #expect(
      outcome.exit == 2 && outcome.stderr.hasPrefix("error[RESUME_MISMATCH]: ")
        || orDamage && outcome.exit == 2 && outcome.stderr.hasPrefix("error[C_CHECKSUM]: "),
      "\(what): \(outcome.exit) \(outcome.stderr)",
      sourceLocation: sourceLocation)
    #expect(
      outcome.stderr.split(separator: "\n").count == 3, "\(outcome.stderr)", sourceLocation: sourceLocation)
    for (name, bytes) in files where name != "x.ingot.journal" {
      #expect(try MappedFile(path: shell.file(name)).bytes.array == bytes, "\(what) changed \(name)")
    }
    #expect(try MappedFile(path: shell.file("x.ingot.journal")).bytes.array == lie, "\(what)")
    restore()
  }

  /// Resumes with what was left, and expects the bytes of a conversion that was never stopped.
  func resumes() throws {
    restore()
    let outcome = try shell.run("smelt \(command) --resume")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let whole = Shell()
    #expect(try whole.run("smelt \(command)").exit == 0)
    let names = try whole.names()
    #expect(try shell.names() == names)
    for name in names {
      let isEqual =
        try MappedFile(path: shell.file(name)).bytes.array == MappedFile(path: whole.file(name)).bytes.array
      #expect(isEqual, "\(name)")
    }
  }
}

extension JSON {
  /// The object with a member in place of another.
  func with(_ key: String, _ value: JSON) -> JSON {
    guard let object else { return self }
    return JSON(members: zip(object.keys, object.values).map { ($0, $0 == key ? value : $1) })
  }
}

/// A name as records have it: its length, then its bytes, in hexadecimal.
private func field(_ name: String) -> String {
  hexadecimal([UInt8(name.utf8.count & 255), UInt8(name.utf8.count >> 8)] + Array(name.utf8))
}

extension String {
  fileprivate func replacing(_ old: String, by new: String) -> String {
    var parts: [Substring] = []
    var rest = self[...]
    while let range = rest.firstRange(of: old) {
      parts += [rest[..<range.lowerBound], new[...]]
      rest = rest[range.upperBound...]
    }
    return (parts + [rest]).joined()
  }
}

@Suite struct JournalLieTests {
  @Test func nothingIsBelieved() throws {
    let stopped = try Stopped(
      "convert v4 x.ingot --scheme int8-channel --journal-step 64K --threads 1", blocks: 700)
    let entries = stopped.entries
    func names(_ entry: JSON) -> [String] {
      (entry["done"]?.array ?? []).compactMap { $0["slab"]?.string }
    }
    let chosen = try #require(
      entries.firstIndex { names($0).count { $0.contains("ffn_gate_exps") } > 1 })
    let done = try #require(entries[chosen]["done"]?.array)
    let records = try #require(entries[chosen]["records"]?.string)
    func second(_ key: String, _ value: JSON) -> [JSON] {
      entries.enumerated().map { $0 == chosen ? $1.with(key, value) : $1 }
    }
    // Two experts of one shape.
    let gates = names(entries[chosen]).filter { $0.contains("ffn_gate_exps") }
    let pair = (gates[0], gates[1])
    #expect(pair.0 != pair.1)
    func swapped(_ text: String, _ a: String, _ b: String) -> String {
      text.replacing(a, by: "@").replacing(b, by: a).replacing("@", by: b)
    }
    let swap = swapped(records, field(pair.0), field(pair.1))
    #expect(swap != records)
    try stopped.refused(second("records", JSON(swap)), "two names swapped in the records")
    let moved = done.map { item -> JSON in
      let name = item["slab"]?.string
      return item.with("slab", JSON(name == pair.0 ? pair.1 : name == pair.1 ? pair.0 : name ?? ""))
    }
    try stopped.refused(second("done", JSON(moved)), "two names swapped in the list")
    try stopped.refused(
      second("done", JSON(moved)).enumerated().map { $0 == chosen ? $1.with("records", JSON(swap)) : $1 },
      "in both")
    // Shapes: [32, 64] and [64, 32], as 64-bit numbers.
    let wide = hexadecimal([2, 32, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0])
    let tall = hexadecimal([2, 64, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0])
    #expect(records.contains(wide) && records.contains(tall))
    try stopped.refused(second("records", JSON(swapped(records, wide, tall))), "shapes swapped")
    try stopped.refused(
      second("records", JSON(records.replacing(field("int8.channel"), by: field("f8_e4m3.channel")))),
      "encoding")
    // Lists.
    try stopped.refused([entries[0], entries[0]] + entries[1...], "an entry twice")
    try stopped.refused([entries[0]] + entries[2...], "an entry left out")
    try stopped.refused([entries[1], entries[0]] + entries[2...], "two entries exchanged")
    try stopped.refused(second("done", JSON(Array(done.dropLast()))), "one weight less")
    try stopped.refused(second("done", JSON(done + [done[0]])), "one weight twice")
    try stopped.refused(
      second("done", JSON([["slab": "x", "inexact_values": 0, "source_xxh64": ""]])), "another weight")
    // Numbers.
    for number in [-1, 1 << 40, Int.max, Int.min] {
      try stopped.refused(
        second("done", JSON([done[0].with("inexact_values", JSON(number))] + done.dropFirst())),
        "\(number) inexact values")
      try stopped.refused(second("position", JSON(number)), "position \(number)")
      try stopped.refused(second("file", JSON(number)), "file \(number)")
    }
    for value: JSON in [JSON(.null), "0", [], [:], 0.5] {
      for key in ["done", "records", "position", "file"] {
        if value.text() == "[]", key == "done" || value.string != nil { continue }
        try stopped.refused(second(key, value), "\(key) \(value.text())")
      }
    }
    for hash in ["", "0", "0123456789abcdef", String(repeating: "f", count: 100_000)] {
      try stopped.refused(
        second("done", JSON([done[0].with("source_xxh64", JSON(hash))] + done.dropFirst())), "source hash")
    }
    // Records that end early, are no digits, or have anything else changed.
    for cut in [1, 2, 30, 64, records.utf8.count - 1] {
      try stopped.refused(second("records", JSON(String(records.dropLast(cut)))), "\(cut) digits less")
    }
    try stopped.refused(second("records", JSON("zz" + records.dropFirst(2))), "no digits")
    let digits = Array(records.utf8)
    for place in stride(from: 0, to: digits.count, by: digits.count / 24) {
      var changed = digits
      changed[place] = changed[place] == 0x66 ? 0x30 : 0x66
      try stopped.refused(
        second("records", JSON(String(decoding: changed, as: UTF8.self))), "digit \(place)", orDamage: true)
    }
    try stopped.resumes()
  }

  /// The files: bytes of a frame, between frames and before the first; shorter, gone.
  @Test func theFilesAreLookedAt() throws {
    let stopped = try Stopped(
      "convert v4 x.ingot --compression raw --journal-step 64K --max-part-size 250K", blocks: 430)
    let shell = stopped.shell
    let first = try MappedFile(path: shell.file("x.ingot.partial")).bytes.array
    // A vector of a few bytes, and the zeros up to the next frame.
    let gap = try #require(
      (64..<first.count - 8).first { first[$0..<$0 + 8].allSatisfy { $0 == 0 } && $0 % 64 == 56 })
    for (place, code) in [(gap, "C_CHECKSUM"), (first.count / 2, "C_CHECKSUM")] {
      var damaged = first
      damaged[place] ^= 1
      putFile(shell.file("x.ingot.partial"), damaged)
      let outcome = try shell.run("smelt \(stopped.command) --resume")
      #expect(
        outcome.exit == 2 && outcome.stderr.hasPrefix("error[\(code)]: "), "byte \(place): \(outcome.stderr)")
      #expect(try MappedFile(path: shell.file("x.ingot.partial")).bytes.array == damaged)
    }
    putFile(shell.file("x.ingot.partial"), Array(first.dropLast(100_000)))
    #expect(try shell.run("smelt \(stopped.command) --resume").stderr.hasPrefix("error[RESUME_MISMATCH]: "))
    removeFile(shell.file("x.ingot.partial"))
    #expect(try shell.run("smelt \(stopped.command) --resume").stderr.hasPrefix("error[RESUME_MISMATCH]: "))
    stopped.restore()
    // Files that begin elsewhere than the plan has them begin.
    let entries = stopped.entries
    let merged = entries.map { $0.with("file", 1) }
    try stopped.refused(merged, "all in one file")
    try stopped.refused(
      entries.enumerated().map { $0 == 0 ? $1 : $1.with("file", JSON(2)) }, "a file begun early")
    try stopped.resumes()
  }

  // MARK: names

  /// Stopped while the parts get their names, after any number of them: `--resume` gives the rest, `--overwrite` begins anew.
  @Test func stoppedBetweenTheNamesOfParts() throws {
    let command = "convert v4 x.ingot --journal-step 64K --max-part-size 200K"
    let stopped = try Stopped(command, blocks: 340)
    let shell = stopped.shell
    let whole = Shell()
    #expect(try whole.run("smelt \(command)").exit == 0)
    let names = try whole.names()
    #expect(names.count >= 3 && names.allSatisfy { $0.hasSuffix("of-0000\(names.count).ingot") })
    let parts = try names.map { try MappedFile(path: whole.file($0)).bytes.array }
    let place = parts[0][16..<24].reversed().reduce(0) { $0 << 8 | Int($1) }
    let identity = hexadecimal(parts[0][place + 112..<place + 128])
    func partial(_ number: Int) -> String {
      number == 0 ? "x.ingot.partial" : "x.ingot-part\(number + 1).partial"
    }
    func lay(_ named: Int, identity: String = identity) throws {
      for name in try shell.names() where name.hasPrefix("x") { removeFile(shell.file(name)) }
      for (number, bytes) in parts.enumerated() {
        putFile(shell.file(number >= parts.count - named ? names[number] : partial(number)), bytes)
      }
      _ = try Journal(
        creating: shell.file("x.ingot.journal"), header: stopped.header,
        stopped.entries + [["finished": JSON(parts.count), "identity": JSON(identity)]])
    }
    func isWhole(_ what: String) throws {
      #expect(try shell.names() == names, "\(what)")
      for (name, bytes) in zip(names, parts) {
        let isEqual = try MappedFile(path: shell.file(name)).bytes.array == bytes
        #expect(isEqual, "\(what): \(name)")
      }
    }
    for named in 0...parts.count {
      for words in ["--resume", "--resume --overwrite", "--overwrite"] {
        try lay(named)
        let anew = try shell.run("smelt \(command)")
        #expect(
          anew.exit == 73 && anew.stderr.contains("--resume") && anew.stderr.contains("--overwrite"),
          "\(anew.stderr)")
        let outcome = try shell.run("smelt \(command) \(words)")
        #expect(outcome.exit == 0, "\(named) named, \(words): \(outcome.stderr)")
        try isWhole("\(named) named, \(words)")
      }
    }
    // Another run's parts, and damaged ones, get no name.
    for (what, code) in [
      ("another identity", "RESUME_MISMATCH"), ("a part is gone", "RESUME_MISMATCH"),
      ("a part is damaged", "C_CHECKSUM"),
    ] {
      try lay(1, identity: what == "another identity" ? String(repeating: "0", count: 32) : identity)
      if what == "a part is gone" { removeFile(shell.file(names[parts.count - 1])) }
      if what == "a part is damaged" {
        var damaged = parts[0]
        damaged[5000] ^= 1
        putFile(shell.file(partial(0)), damaged)
      }
      let before = try shell.names()
      let outcome = try shell.run("smelt \(command) --resume")
      #expect(outcome.exit == 2 && outcome.stderr.hasPrefix("error[\(code)]: "), "\(what): \(outcome.stderr)")
      #expect(try shell.names() == before, "\(what)")
      #expect(try shell.run("smelt \(command) --overwrite").exit == 0, "\(what)")
      try isWhole(what)
    }
  }
}
