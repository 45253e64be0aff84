// Importance matrices: both forms of one run of llama-imatrix, what the writer gives, and files that are refused.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ImatrixTests {
  static let gguf = fixture("gguf/imatrix.gguf")
  static let dat = fixture("gguf/imatrix.dat")

  private func floats(_ bytes: Bytes) -> [Float] {
    bytes.withUnsafeBytes { all in
      stride(from: 0, to: all.count, by: 4).map { all.loadUnaligned(fromByteOffset: $0, as: Float.self) }
    }
  }

  @Test func bothFormsSayTheSame() throws {
    #expect(ImatrixFile.isImatrix(Self.gguf) && ImatrixFile.isImatrix(Self.dat))
    let new = try ImatrixFile(path: Self.gguf)
    let old = try ImatrixFile(path: Self.dat)
    #expect(!new.isLegacy && old.isLegacy)
    #expect((new.chunkCount, new.chunkSize) == (8, 512))
    #expect(old.chunkCount == 8 && old.chunkSize == nil)
    #expect(new.datasets == ["texts/calibration-60kB.txt"] && old.datasets == new.datasets)
    #expect(
      new.entries.map(\.name)
        == [
          "attn_k", "attn_output", "attn_q", "attn_v", "ffn_down_exps", "ffn_gate_exps", "ffn_gate_inp",
          "ffn_up_exps",
        ].map { "blk.0.\($0).weight" })
    #expect(old.entries.map(\.name) == new.entries.map(\.name))
    #expect(new.entries.map(\.valueCount) == [256, 256, 256, 256, 512, 512, 256, 512])
    #expect(new.entries.map(\.counts)[3...4] == [[4096], [2101, 1995]])
    #expect(old.entries.map(\.counts)[3...4] == [[8], [5]])
    for (new, old) in zip(new.entries, old.entries) {
      let (a, b) = (floats(new.sums), floats(old.sums))
      #expect(a.count == b.count)
      let run = a.count / new.counts.count
      for index in a.indices {
        let mean = a[index] / Float(new.counts[index / run])
        #expect(abs(mean - b[index] / Float(old.counts[0])) <= mean * 0x1p-22, "\(new.name) \(index)")
      }
    }
    #expect(floats(new.entries[0].sums)[0] == 12206.4043)
  }

  @Test func otherFilesAreNone() throws {
    let folder = TemporaryFolder()
    #expect(!ImatrixFile.isImatrix(fixture("safetensors/all-dtypes.safetensors")))
    #expect(!ImatrixFile.isImatrix(fixture("models/qwen3_moe/config.json")))
    #expect(!ImatrixFile.isImatrix(folder.path) && !ImatrixFile.isImatrix(folder.file("none")))
    let error = #expect(throws: FormatError.self) {
      try ImatrixFile(path: fixture("gguf/all-types.gguf"))
    }
    #expect(error?.code == .statistics && error?.subject == "general.type")
  }

  /// The reader's golden file comes out again byte for byte.
  @Test func goldenFileComesOutAgain() throws {
    let folder = TemporaryFolder()
    let path = folder.file("again.gguf")
    let golden = try ImatrixFile(path: Self.gguf)
    var writer = try ImatrixWriter(
      path: path,
      entries: golden.entries.map {
        .init($0.name, matrices: $0.counts.count, columns: $0.valueCount / $0.counts.count)
      }, datasets: golden.datasets, chunkCount: 8, chunkSize: 512)
    for entry in golden.entries {
      try writer.write(entry.name, sums: floats(entry.sums), counts: entry.counts)
    }
    try writer.commit()
    let same = try MappedFile(path: path).bytes.array == MappedFile(path: Self.gguf).bytes.array
    #expect(same)
  }

  // MARK: refusals, the older form

  private static func le(_ value: Int32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

  private static func entry(_ name: [UInt8], length: Int32? = nil, calls: Int32 = 2, values: Int32 = 2)
    -> [UInt8]
  {
    le(length ?? Int32(name.count)) + name + le(calls) + le(values) + [UInt8](repeating: 0, count: 8)
  }

  private static let name = Array("blk.0.attn_k.weight".utf8)
  private static let end = le(3) + le(4) + Array("text".utf8)

  static let faults: [(name: String, bytes: [UInt8], offset: Int)] = [
    ("no bytes", [], 0),
    ("no entries", le(0) + end, 0),
    ("a negative number of entries", le(-1) + entry(name), 0),
    ("more entries than bytes", le(.max) + entry(name), 0),
    ("an entry too few", le(2) + entry(name), 43),
    ("an empty name", le(1) + entry([], length: 0) + end, 4),
    ("a negative length", le(1) + entry(name, length: -1) + end, 4),
    ("the length whose successor wraps", le(1) + entry(name, length: .max) + end, 8),
    ("a name that is not UTF-8", le(1) + entry([0xFF, 0x41]) + end, 8),
    ("a name with a control character", le(1) + entry([0x41, 0x0A]) + end, 4),
    ("no calls", le(1) + entry(name, calls: 0) + end, 27),
    ("negative calls", le(1) + entry(name, calls: -5) + end, 27),
    ("no values", le(1) + entry(name, values: 0) + end, 31),
    ("a negative number of values", le(1) + entry(name, values: -1) + end, 31),
    ("values whose bytes wrap 32 bits", le(1) + entry(name, values: 1 << 30) + end, 35),
    ("more values than bytes", le(1) + entry(name, values: 6) + end, 35),
    ("a name twice", le(2) + entry(name) + entry(name) + end, 82),
    ("negative chunks", le(1) + entry(name) + le(-1), 43),
    ("a negative length of the text's name", le(1) + entry(name) + le(1) + le(-1), 47),
    ("a text's name beyond the end", le(1) + entry(name) + le(1) + le(5) + Array("text".utf8), 51),
    ("bytes after the end", le(1) + entry(name) + end + [0], 55),
  ]

  @Test(arguments: faults.map(\.name)) func olderFormIsRefused(_ name: String) throws {
    let fault = try #require(Self.faults.first { $0.name == name })
    let folder = TemporaryFolder()
    let path = folder.file("bad.dat")
    writeRaw(path, fault.bytes)
    let error = try #require(throws: FormatError.self) { try ImatrixFile(path: path) }
    #expect(error.code == .statistics && error.file == path)
    #expect(error.offset == fault.offset, "\(error)")
  }

  /// A prefix is refused, unless it ends where older writers ended: after the values, or after the chunks.
  @Test func everyPrefixIsRefused() throws {
    let folder = TemporaryFolder()
    let path = folder.file("cut.dat")
    let whole = Self.le(1) + Self.entry(Self.name) + Self.end
    var read: [Int] = []
    for count in 0...whole.count {
      writeRaw(path, Array(whole[..<count]))
      do {
        let file = try ImatrixFile(path: path)
        read.append(count)
        #expect(file.entries.map(\.valueCount) == [2])
      } catch let error as FormatError {
        #expect(error.code == .statistics && error.file == path)
      }
    }
    #expect(read == [43, 47, 55])
  }

  /// 2,000 files with one to three bytes changed: refused, or read with values within the file.
  @Test(arguments: [dat, gguf]) func changedFileIsRefusedOrReadWithinIt(_ golden: String) throws {
    let folder = TemporaryFolder()
    let path = folder.file("mutant")
    let whole = try MappedFile(path: golden).bytes.array
    var generator = Generator(seed: 0x1A7)
    for _ in 0..<2000 {
      var mutant = whole
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        // Most of the file is values, which nothing checks here: aim at the first bytes.
        let place = Int.random(
          in: 0..<(Bool.random(using: &generator) ? 64 : mutant.count), using: &generator)
        mutant[place] = [0, 1, 0x7F, 0x80, 0xFF, 0x20][Int.random(in: 0..<6, using: &generator)]
      }
      writeRaw(path, mutant)
      do {
        let file = try ImatrixFile(path: path)
        for entry in file.entries {
          #expect(
            entry.offset + entry.sums.count <= mutant.count && entry.valueCount % entry.counts.count == 0)
          #expect(entry.counts.allSatisfy { $0 >= 0 })
        }
      } catch let error as FormatError { #expect(error.file == path) }
    }
  }

  // MARK: refusals, GGUF

  static let keys: [(key: String, value: GGUFValue)] = [
    ("general.type", .string("imatrix")), ("imatrix.datasets", .array(GGUFArray(strings: []))),
    ("imatrix.chunk_count", .u32(1)), ("imatrix.chunk_size", .u32(2)),
  ]

  @Test(arguments: [
    "", "general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size", "a.in_sum2",
    "a.counts",
    "a.other", "wide sums", "wide counts", "three counts", "no tensors", "count of -1", "count of NaN",
    "count of infinity",
  ]) func ggufIsRefused(_ fault: String) throws {
    let folder = TemporaryFolder()
    let path = folder.file("bad.gguf")
    let f32 = try #require(GGUFTensorType.named("F32"))
    let f64 = try #require(GGUFTensorType.named("F64"))
    var tensors: [(GGUFPlan.Tensor, [Float])] = [
      (.init("a.in_sum2", f32, [2, 4]), [Float](repeating: 1, count: 8)),
      (.init("a.counts", f32, [2, 1]), [3, 4]),
    ]
    switch fault {
    case "a.in_sum2": tensors.remove(at: 0)
    case "a.counts": tensors.remove(at: 1)
    case "a.other": tensors.append((.init("a.other", f32, [1]), [0]))
    case "wide sums": tensors[0] = (.init("a.in_sum2", f64, [2, 2]), tensors[0].1)
    case "wide counts": tensors[1] = (.init("a.counts", f64, [1]), tensors[1].1)
    case "three counts": tensors[1] = (.init("a.counts", f32, [3]), [1, 2, 3])
    case "no tensors": tensors = []
    case "count of -1": tensors[1].1[1] = -1
    case "count of NaN": tensors[1].1[1] = .nan
    case "count of infinity": tensors[1].1[1] = .infinity
    default: break
    }
    var writer = try GGUFWriter(
      path: path, tensors: tensors.map(\.0), metadata: Self.keys.filter { $0.key != fault })
    for (tensor, values) in tensors { try writer.write(tensor.name, values) }
    try writer.commit()
    guard fault != "" else {
      #expect(try ImatrixFile(path: path).entries.map(\.counts) == [[3, 4]])
      return
    }
    let error = try #require(throws: FormatError.self) { try ImatrixFile(path: path) }
    #expect(error.code == .statistics && error.file == path && error.subject != nil, "\(error)")
  }
}
