// Every file of Fixtures/malformed/gguf is refused with the code, byte and subject written beside it; every prefix of a
// good file is refused; and 2,000 changed files are refused or read, never more. Rules: Formats/gguf.md.

import SmeltContainers
import SmeltStorage
import SmeltTestSupport
import Testing

/// What a GGUF fault's JSON expects.
struct GGUFFault: CustomStringConvertible, Sendable {
  let name: String
  /// The file to open.
  let path: String
  /// The file at fault.
  let file: String
  let code: String
  let offset: Int?
  let subject: String?
  var description: String { name }

  static let all: [GGUFFault] = {
    let folder = fixture("malformed/gguf")
    let names = (try? namesInFolder(folder)) ?? []
    return names.filter { $0.hasSuffix(".json") }.map { file in
      let name = String(file.dropLast(5))
      guard let bytes = try? readSmallFile(folder + "/" + file, limit: 1 << 16, code: .configJSON),
        let json = try? JSON.scan(bytes), let code = json["code"]?.string
      else { preconditionFailure("\(file) is not what gguf_malformed.py writes") }
      let opened = json["opened"]?.string.map { "\(folder)/\(name)/\($0)" } ?? "\(folder)/\(name).gguf"
      return GGUFFault(
        name: name, path: opened, file: json["file"]?.string.map { "\(folder)/\(name)/\($0)" } ?? opened,
        code: code, offset: json["offset"]?.integer, subject: json["subject"]?.string)
    }
  }()
}

@Suite struct GGUFMalformedTests {
  @Test(arguments: GGUFFault.all)
  func isRefused(_ fault: GGUFFault) throws {
    let error = try #require(throws: FormatError.self) { try GGUFFile(path: fault.path) }
    #expect(error.code.name == fault.code, "\(error)")
    #expect(error.file == fault.file)
    #expect(error.offset != nil, "\(error)")
    if let offset = fault.offset { #expect(error.offset == offset, "\(error)") }
    if let subject = fault.subject { #expect(error.subject == subject, "\(error)") }
    let text = error.description
    #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count == 3, "\(error)")
    #expect(text.utf8.count < 1500)
    #expect(text.unicodeScalars.allSatisfy { $0 == "\n" || $0.value >= 0x20 && $0.value != 0x202E })
  }

  @Test func everyCodeHasItsFile() {
    let zoo = Set(GGUFFault.all.map(\.code))
    let codes = ErrorCode.all.map(\.name).filter { $0.hasPrefix("GG_") }
    #expect(codes.count == 17 && zoo.isSuperset(of: codes))
    #expect(GGUFFault.all.count >= 100)
  }

  /// A good file with keys of many kinds, and two tensors: [2, 32] in Q8_0 and [5] in F32.
  private static let small: [UInt8] = {
    func le<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    func text(_ text: String) -> [UInt8] { le(UInt64(text.utf8.count)) + Array(text.utf8) }
    func key(_ name: String, _ type: UInt32, _ value: [UInt8]) -> [UInt8] { text(name) + le(type) + value }
    func pair(_ type: UInt32, _ first: [UInt8], _ second: [UInt8]) -> [UInt8] {
      le(type) + le(UInt64(2)) + first + second
    }
    let keys: [[UInt8]] = [
      key("general.architecture", 8, text("golden")), key("a.u8", 0, [7]), key("a.u16", 2, le(UInt16(7))),
      key("a.u32", 4, le(UInt32(7))), key("a.u64", 10, le(UInt64(7))), key("a.bool", 7, [1]),
      key("a.f64", 12, le(Double(0.5).bitPattern)), key("general.alignment", 4, le(UInt32(16))),
      key("a.strings", 9, pair(8, text("one"), text("żó"))), key("a.bools", 9, pair(7, [0], [1])),
      key("a.ints", 9, pair(5, le(Int32(-1)), le(Int32(2)))),
      key("split.count", 2, le(UInt16(0))),
    ]
    let tensors: [[UInt8]] = [
      text("x"), le(UInt32(2)), le(UInt64(32)), le(UInt64(2)), le(UInt32(8)), le(UInt64(0)),
      text("y"), le(UInt32(1)), le(UInt64(5)), le(UInt32(0)), le(UInt64(80)),
    ]
    let head: [[UInt8]] = [Array("GGUF".utf8), le(UInt32(3)), le(UInt64(2)), le(UInt64(keys.count))]
    var bytes = Array((head + keys + tensors).joined())
    while bytes.count % 16 != 0 { bytes.append(0) }
    bytes += (0..<100).map { UInt8($0) }
    return bytes
  }()

  /// No part of a good file passes for the whole.
  @Test func everyPrefixIsRefused() throws {
    let folder = TemporaryFolder()
    let path = folder.file("prefix.gguf")
    writeRaw(path, Self.small)
    #expect(try GGUFFile(path: path).tensors.map(\.bytes.count) == [68, 20])
    let codes: Set<String> = ["GG_TRUNCATED", "GG_COUNT", "GG_STRING", "GG_ARRAY", "GG_NAME"]
    for count in 0..<Self.small.count {
      writeRaw(path, Array(Self.small[..<count]))
      let error = #expect(throws: FormatError.self, "\(count) bytes") { try GGUFFile(path: path) }
      #expect(codes.contains(error?.code.name ?? ""), "\(count) bytes: \(error?.code.name ?? "")")
    }
  }

  /// 2,000 headers with one to three bytes changed: refused with a `FormatError`, or read with tensors in the file.
  @Test func changedHeaderIsRefusedOrReadWithinTheFile() throws {
    let folder = TemporaryFolder()
    let path = folder.file("mutant.gguf")
    let headerEnd = Self.small.count - 100
    var generator = Generator(seed: 0x66F6)
    var refused = 0
    for round in 0..<2000 {
      var mutant = Self.small
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let interesting: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &generator)]
        mutant[Int.random(in: 0..<headerEnd, using: &generator)] =
          interesting[Int.random(in: 0..<interesting.count, using: &generator)]
      }
      writeRaw(path, mutant)
      do {
        let file = try GGUFFile(path: path)
        for (_, value) in file.metadata { #expect(value.array.map { $0.values.count == $0.count } ?? true) }
        for tensor in file.tensors {
          #expect(tensor.offset + tensor.bytes.count <= mutant.count, "round \(round)")
          #expect(tensor.bytes.array == Array(mutant[tensor.offset..<tensor.offset + tensor.bytes.count]))
        }
      } catch let error as FormatError {
        refused += 1
        #expect(error.file == path)
      }
    }
    #expect(refused > 1000)
  }

  /// What is not a regular file is not opened.
  @Test func folderIsNoFile() throws {
    let error = try #require(throws: FormatError.self) { try GGUFFile(path: fixture("malformed")) }
    #expect(error.code == .notFile && error.file == fixture("malformed"))
  }

  /// The message counts what is missing.
  @Test func truncationCountsTheMissingBytes() throws {
    let folder = TemporaryFolder()
    let path = folder.file("cut.gguf")
    let size = Self.small.count
    writeRaw(path, Array(Self.small.dropLast(7)))
    let error = try #require(throws: FormatError.self) { try GGUFFile(path: path) }
    #expect(error.code == .ggTruncated && error.subject == "y" && error.offset == size - 7)
    #expect(error.problem == "found \(size - 7) bytes, expected \(size): 7 bytes are missing")
  }
}
