// Every file of Fixtures/malformed is refused with the code, byte and tensor written beside it; and what git cannot
// hold (links, pipes, a file that changes) is made here. The numbers are the rules of Formats/safetensors.md.

import SmeltContainers
import SmeltStorage
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a fault's JSON expects.
struct Fault: CustomStringConvertible, Sendable {
  let name: String
  let path: String
  let code: String
  let file: String?
  let offset: Int?
  let subject: String?
  let mentions: [String]
  let isWarning: Bool
  var description: String { name }

  /// The faults of a folder of Fixtures/malformed.
  static func all(_ kind: String, suffix: String) -> [Fault] {
    let folder = fixture("malformed/\(kind)")
    let names = (try? namesInFolder(folder)) ?? []
    return names.filter { $0.hasSuffix(".json") }.map { file in
      let name = String(file.dropLast(5))
      guard let bytes = try? readSmallFile(folder + "/" + file, limit: 1 << 16, code: .configJSON),
        let json = try? JSON.scan(bytes), let code = json["code"]?.string
      else { preconditionFailure("\(file) is not what malformed.py writes") }
      return Fault(
        name: name, path: "\(folder)/\(name)\(suffix)", code: code, file: json["file"]?.string,
        offset: json["offset"]?.integer, subject: json["subject"]?.string,
        mentions: json["mentions"]?.array?.compactMap(\.string) ?? [],
        isWarning: json["warning"]?.bool ?? false)
    }
  }

  static let files = all("safetensors", suffix: ".safetensors")
  static let folders = all("directory", suffix: "")
}

@Suite struct SafetensorsMalformedTests {
  @Test(arguments: Fault.files)
  func isRefused(_ fault: Fault) throws {
    let error = try #require(throws: FormatError.self) { try SafetensorsFile(path: fault.path) }
    #expect(error.code.name == fault.code, "\(error)")
    #expect(error.file == fault.path)
    if let offset = fault.offset { #expect(error.offset == offset, "\(error)") }
    #expect(error.offset != nil, "\(error)")
    if let subject = fault.subject { #expect(error.subject == subject, "\(error)") }
    checkText(error)
  }

  @Test(arguments: Fault.folders.filter { !$0.isWarning })
  func folderIsRefused(_ fault: Fault) throws {
    let error = try #require(throws: FormatError.self) { try SafetensorsDirectory(path: fault.path) }
    check(error, fault)
  }

  @Test(arguments: Fault.folders.filter(\.isWarning))
  func folderIsReadWithAWarning(_ fault: Fault) throws {
    let source = try SafetensorsDirectory(path: fault.path)
    #expect(source.tensors.map(\.name) == ["a", "b"])
    try #require(source.warnings.count == 1, "\(source.warnings)")
    check(source.warnings[0], fault)
  }

  private func check(_ error: FormatError, _ fault: Fault) {
    #expect(error.code.name == fault.code, "\(error)")
    #expect(error.file?.hasPrefix(fault.path) == true, "\(error)")
    if let file = fault.file { #expect(error.file == "\(fault.path)/\(file)", "\(error)") }
    if let offset = fault.offset { #expect(error.offset == offset, "\(error)") }
    if let subject = fault.subject { #expect(error.subject == subject, "\(error)") }
    for word in fault.mentions { #expect(error.problem.contains(word), "\(error)") }
    checkText(error)
  }

  /// Three lines, and nothing in them that moves a terminal's cursor.
  private func checkText(_ error: FormatError) {
    let lines = error.description.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count == 3, "\(error)")
    // However long a name in the file is, a message stays a message.
    #expect(error.description.utf8.count < 1500)
    let isClean = lines.joined().unicodeScalars.allSatisfy {
      $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) && $0.value != 0x202E
    }
    #expect(isClean)
  }

  @Test func everyCodeHasItsFile() {
    let zoo = Set((Fault.files + Fault.folders).map(\.code))
    // Links are made at run time.
    let elsewhere: Set<String> = ["IDX_LINK"]
    for code in ErrorCode.all where code.name.hasPrefix("ST_") || code.name.hasPrefix("IDX_") {
      #expect(zoo.contains(code.name) || elsewhere.contains(code.name), "\(code)")
    }
    #expect(zoo.isSuperset(of: ["SRC_LFS_POINTER", "SRC_NOT_WEIGHTS", "SRC_NOT_MODEL"]))
    #expect(Fault.files.count >= 100 && Fault.folders.count >= 35)
  }

  /// Rule 1, 2 and 18: no part of a good file passes for the whole.
  @Test func everyPrefixIsRefused() throws {
    let good = try readSmallFile(
      fixture("safetensors/all-dtypes.safetensors"), limit: 1 << 20, code: .stHeaderSize
    ).array
    let folder = TemporaryFolder()
    let path = folder.file("prefix.safetensors")
    for count in 0..<good.count {
      writeRaw(path, Array(good[..<count]))
      let error = #expect(throws: FormatError.self, "\(count) bytes") { try SafetensorsFile(path: path) }
      let code = error?.code.name ?? ""
      #expect(["ST_TRUNCATED", "ST_HEADER_SIZE"].contains(code), "\(count) bytes: \(code)")
    }
  }

  /// Rule 18: the message counts what is missing.
  @Test func truncationCountsTheMissingBytes() throws {
    let fault = fixture("malformed/safetensors/truncated-second.safetensors")
    let error = try #require(throws: FormatError.self) { try SafetensorsFile(path: fault) }
    let size = try MappedFile(path: fault).count
    #expect(error.problem == "found \(size) bytes, expected \(size + 5): 5 bytes are missing")
    #expect(error.offset == size)
  }

  /// Rule 7, with a limit of 2 for a million.
  @Test func tensorsAreCounted() throws {
    let folder = TemporaryFolder()
    let path = folder.file("three.safetensors")
    var writer = try SafetensorsWriter(
      path: path, tensors: ["a", "b", "c"].map { .init($0, .u8, [1]) }, metadata: [("note", "not a tensor")])
    for name in ["a", "b", "c"] { try writer.write(name, [UInt8(1)]) }
    try writer.commit()
    let error = try #require(throws: FormatError.self) { try SafetensorsFile(path: path, tensorLimit: 2) }
    #expect(error.code == .stHeaderLimit && error.subject == "c")
    #expect(try SafetensorsFile(path: path, tensorLimit: 3).tensors.count == 3)
  }

  // MARK: what is not a file (rule 28)

  @Test func directoryIsNoFile() throws {
    let error = try #require(throws: FormatError.self) { try SafetensorsFile(path: fixture("malformed")) }
    #expect(error.code == .notFile && error.file == fixture("malformed"))
  }

  @Test func pipeIsRefusedWithoutWaiting() throws {
    let folder = TemporaryFolder()
    let path = folder.file("model.safetensors")
    #expect(mkfifo(path, 0o600) == 0)
    #expect(try #require(throws: FormatError.self) { try SafetensorsFile(path: path) }.code == .notFile)
    let error = try #require(throws: FormatError.self) { try SafetensorsDirectory(path: folder.path) }
    #expect(error.code == .notFile && error.file == path)
  }

  @Test func deviceIsRefused() throws {
    #expect(
      try #require(throws: FormatError.self) { try SafetensorsFile(path: "/dev/zero") }.code == .notFile)
  }

  @Test func nothingIsMissing() throws {
    let folder = TemporaryFolder()
    let path = folder.file("no.safetensors")
    let error = try #require(throws: FormatError.self) { try SafetensorsFile(path: path) }
    #expect(error.code == .missingFile && error.file == path)
    #expect(
      try #require(throws: FormatError.self) { try SafetensorsDirectory(path: path) }.code == .missingFile)
    #expect(
      try #require(throws: FormatError.self) {
        try SafetensorsDirectory(path: fixture("safetensors/all-dtypes.safetensors"))
      }.code == .notModel)
  }

  // MARK: links (rule 23)

  /// A folder tree with a hub cache's repository in it.
  struct Hub {
    let folder = TemporaryFolder()
    let digest = String(repeating: "0123456789abcdef", count: 4)
    var snapshot: String { folder.file("models--x--y/snapshots/abc") }
    var blobs: String { folder.file("models--x--y/blobs") }

    init() throws {
      for name in [
        "models--x--y", "models--x--y/blobs", "models--x--y/snapshots", "models--x--y/snapshots/abc",
      ] {
        #expect(mkdir(folder.file(name), 0o700) == 0)
      }
      try write(blobs + "/" + digest)
      try write(folder.file("outside.safetensors"))
    }

    func write(_ path: String) throws {
      var writer = try SafetensorsWriter(path: path, tensors: [.init("a", .f32, [2])])
      try writer.write("a", [Float(1), 2])
      try writer.commit()
    }

    func link(_ target: String, _ name: String = "model.safetensors") {
      #expect(symlink(target, snapshot + "/" + name) == 0)
    }
  }

  @Test func hubLinkIsFollowed() throws {
    let hub = try Hub()
    hub.link("../../blobs/" + hub.digest)
    let source = try SafetensorsDirectory(path: hub.snapshot)
    #expect(source.tensors.map(\.name) == ["a"])
    #expect(source.tensors[0].file == hub.snapshot + "/model.safetensors")
    try source.checkUnchanged()
  }

  @Test func linkWithinTheFolderIsFollowed() throws {
    let hub = try Hub()
    try hub.write(hub.snapshot + "/real.bin")
    hub.link("real.bin")
    #expect(try SafetensorsDirectory(path: hub.snapshot).tensors.count == 1)
  }

  @Test(arguments: [
    "../../../outside.safetensors", "../../blobs/../../outside.safetensors", "../../blobs/readme",
    "/dev/zero",
  ])
  func linkThatLeavesIsRefused(_ target: String) throws {
    let hub = try Hub()
    try hub.write(hub.blobs + "/readme")
    hub.link(target)
    let error = try #require(throws: FormatError.self) { try SafetensorsDirectory(path: hub.snapshot) }
    #expect(error.code == .idxLink && error.file == hub.snapshot + "/model.safetensors", "\(error)")
  }

  /// The blob of another repository is outside, however it is named.
  @Test func linkToAnotherRepositoryIsRefused() throws {
    let hub = try Hub()
    #expect(mkdir(hub.folder.file("models--other"), 0o700) == 0)
    #expect(mkdir(hub.folder.file("models--other/blobs"), 0o700) == 0)
    try hub.write(hub.folder.file("models--other/blobs/\(hub.digest)"))
    hub.link("../../../models--other/blobs/\(hub.digest)")
    let error = try #require(throws: FormatError.self) { try SafetensorsDirectory(path: hub.snapshot) }
    #expect(error.code == .idxLink)
  }

  @Test func indexMayNotBeALinkThatLeaves() throws {
    let hub = try Hub()
    try writeFile(
      hub.folder.file("index.json"), Array(#"{"weight_map":{"a":"x.safetensors"}}"#.utf8), overwrite: false)
    try hub.write(hub.snapshot + "/x.safetensors")
    hub.link("../../../index.json", "model.safetensors.index.json")
    let error = try #require(throws: FormatError.self) { try SafetensorsDirectory(path: hub.snapshot) }
    #expect(error.code == .idxLink)
  }

  @Test func danglingLinkIsMissing() throws {
    let hub = try Hub()
    hub.link("../../blobs/" + String(repeating: "f", count: 64))
    let error = try #require(throws: FormatError.self) { try SafetensorsDirectory(path: hub.snapshot) }
    #expect(error.code == .idxMissing && error.file == hub.snapshot + "/model.safetensors", "\(error)")
  }

  // MARK: a file that changes (rule 30)

  @Test func changeIsNoticed() throws {
    let hub = try Hub()
    try hub.write(hub.snapshot + "/model.safetensors")
    let source = try SafetensorsDirectory(path: hub.snapshot)
    try source.checkUnchanged()
    let path = hub.snapshot + "/model.safetensors"
    #expect(truncate(path, 20) == 0)
    let error = try #require(throws: FormatError.self) { try source.checkUnchanged() }
    #expect(error.code == .changed && error.file == path)
  }
}
