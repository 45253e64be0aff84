// What is read from bytes of the usual form is what the JSON reader makes of the same text, errors included.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltContainers

@Suite struct HeaderFormTests {
  private let folder = TemporaryFolder()

  private func file(_ header: String, dataCount: Int) -> [UInt8] {
    var bytes = Array(header.utf8)
    while bytes.count % 512 != 0 { bytes.append(0x20) }
    return withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { Array($0) } + bytes
      + [UInt8](repeating: 0, count: dataCount)
  }

  /// What opening says: every tensor, or code and words of the refusal.
  private func outcome(_ header: String, dataCount: Int, limit: Int = 1000) -> String {
    let path = folder.file("m.safetensors")
    writeRaw(path, file(header, dataCount: dataCount))
    do {
      let opened = try SafetensorsFile(path: path, tensorLimit: limit)
      for tensor in opened.tensors { #expect(opened.tensor(tensor.name)?.offset == tensor.offset) }
      #expect(opened.tensor("nobody") == nil)
      let start = opened.tensors.map(\.offset).min() ?? 0
      return opened.tensors.map {
        "\($0.name) \($0.dtype) \($0.shape) \($0.offset - start)+\($0.byteCount)"
      }
      .joined(separator: "; ") + " | \(opened.metadata)"
    } catch let error as FormatError {
      return "\(error.code.name) \(error.subject ?? "-") \(error.problem)"
    } catch {
      return "\(error)"
    }
  }

  /// Entries, right and wrong in every way that the rules name.
  private static let entries = [
    #"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, #"{"dtype":"U8","shape":[8],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[],"data_offsets":[0,1]}"#, #"{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}"#,
    #"{"dtype":"F4","shape":[1],"data_offsets":[0,0]}"#,
    #"{"dtype":"F8_E4M3FNUZ","shape":[4],"data_offsets":[0,4]}"#,
    #"{"dtype":"I8","shape":[0,9007199254740992],"data_offsets":[0,0]}"#,
    #"{"shape":[2],"dtype":"F32","data_offsets":[0,8]}"#,
    #"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#,
    #"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, #"{"dtype":"F32","shape":[2],"data_offsets":[4]}"#,
    #"{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}"#,
    #"{"dtype":"F33","shape":[2],"data_offsets":[0,8]}"#,
    #"{"dtype":"","shape":[2],"data_offsets":[0,8]}"#, #"{"dtype":"F32","shape":[02],"data_offsets":[0,8]}"#,
    #"{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#,
    #"{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}"#,
    #"{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,8]}"#,
    #"{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[1,1,1,1,1,1,1,8],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,8],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}"#, #"{"dtype":"U8","shape":[8]}"#,
    #"{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[8,],"data_offsets":[0,8]}"#,
    #"{"dtype":"U8","shape":[8],"data_offsets":[0,8]"#, #"{"dtype":"U8","shape":[8],"data_offsets":[0,8"#,
    #"{"dtype":"U8","shape":8,"data_offsets":[0,8]}"#, "{}", "[]", "7", "", #"{"dtype":"#, #"{"dtype":"U8"#,
  ]

  @Test(arguments: entries) func anEntryIsReadInEitherWay(entry: String) {
    // A tab is white space to JSON, and none of the usual form.
    let slow = entry.isEmpty ? "\t" : entry.replacing("{", with: "{\t", maxReplacements: 1)
    for name in ["a", "layers.0.w", "", "a\u{7F}b", "ä", "a\\u0062", "__metadata__"] {
      for (before, after) in [
        ("", ""), (#""z":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},"#, ""), ("", #","q":1"#),
      ] {
        func header(_ entry: String) -> String { "{\(before)\"\(name)\":\(entry)\(after)}" }
        for count in [8, 11] {
          #expect(
            outcome(header(entry), dataCount: count) == outcome(header(slow), dataCount: count),
            "\(header(entry))")
        }
      }
    }
  }

  @Test func namesAreTakenOnceAndCounted() {
    func entry(_ name: String, _ place: Int, _ space: String) -> String {
      "\"\(name)\":{\(space)\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[\(place),\(place + 1)]}"
    }
    for space in ["", "\t", " "] {
      let twice = outcome("{" + entry("a", 0, space) + "," + entry("a", 1, "") + "}", dataCount: 2)
      #expect(twice.hasPrefix("ST_DUPLICATE a "), "\(twice)")
      // One letter in two spellings is one name.
      let accents = outcome(
        "{" + entry("\u{E9}", 0, space) + "," + entry("e\u{301}", 1, "") + "}", dataCount: 2)
      #expect(accents.hasPrefix("ST_DUPLICATE"), "\(accents)")
      let many = (0..<5).map { entry("t\($0)", $0, space) }.joined(separator: ",")
      #expect(outcome("{\(many)}", dataCount: 5, limit: 4).hasPrefix("ST_HEADER_LIMIT t4 "))
      // The order of the bytes, whatever that of the header.
      let turned = (0..<5).reversed().map { entry("t\($0)", $0, space) }.joined(separator: ",")
      #expect(outcome("{\(turned)}", dataCount: 5) == outcome("{\(many)}", dataCount: 5))
    }
  }

  // MARK: index

  private func tensor(_ name: String) -> TensorInfo {
    TensorInfo(name: name, dtype: .u8, shape: [0], file: "/x/y", offset: 0, bytes: Bytes([]))
  }

  private func index(_ text: String) -> String {
    do {
      let index = try SafetensorsIndex(Bytes(Array(text.utf8)), file: "index")
      let lines = index.lines.map { line -> String in
        let name = index.tensor(line)
        #expect(index.isNamed(line, tensor(name)) && !index.isNamed(line, tensor(name + "x")))
        return "\(name)=\(index.shards[Int(line.shard)])"
      }
      return "\(lines) \(index.shards) \(index.totalSize.map { $0.text() } ?? "-")"
    } catch {
      return "\(error.code.name) \(error.subject ?? "-") \(error.problem)"
    }
  }

  @Test(arguments: [
    #""a":"y","b":"x","c":"y""#, #""a":"y""#, "", #""a":"y","a":"y""#, #""a":"""#, #""a":"..""#,
    #""a":"x/y""#,
    #""a":"y","b":7"#, #""a":"y","b":"x","#, #""a":"y" "b":"x""#, #""a":"y","b""#, #""a\n":"y""#, #""ä":"y""#,
    #""a":"y\u0041""#, #""a":null"#, #""a":"","b":"y""#,
    // Names in another order than that of their bytes, and copies of names in all places.
    #""b":"y","a":"x","c":"x""#, #""b":"y","a":"x","b":"x""#, #""a":"y","b":"y","b":"x""#,
    #""a":"y","b":"x","a":"x""#, #""a":"y","c":"x","b":"x","d":"y","c":"z""#,
    #""model.layers.10.x":"y","model.layers.9.x":"x","model.layers.9.xx":"x","model.layers.9":"x""#,
    #""model.layers.9.x":"y","model.layers.9.x.a":"x","model.layers.9.x":"x""#,
  ]) func anIndexIsReadInEitherWay(map: String) {
    // An escaped slash in a key is no usual form; its name is the same.
    for (quick, slow) in [
      (#"{"weight_map":{\#(map)}}"#, #"{"weight_m\u0061p":{\#(map)}}"#),
      (
        #"{"metadata":{"total_size":12},"weight_map":{\#(map)}}"#,
        #"{"metadata":{"total_size":12},"weight_map":{\#(map)},"weight":{"deep":[[[[1]]]]},"x":"\u0061"}"#
      ),
    ] {
      let found = index(quick)
      if slow.contains("m\\u0061p") {
        // The key of this text is the same, and its value goes the way of trees.
        #expect(index(slow) == found)
      } else {
        #expect(index(slow) == found, "\(map)")
      }
    }
  }

  @Test func anIndexHasOneMap() {
    #expect(index(#"{"weight_map":{"a":"x"},"weight_map":{"b":"y"}}"#).hasPrefix("IDX_DUPLICATE"))
    #expect(index(#"{"weight_map":{"a":"x"}} x"#).hasPrefix("IDX_JSON"))
    #expect(index(#"{"metadata":{}}"#).hasPrefix("IDX_JSON weight_map found none"))
    #expect(index(#"{"weight_map":["a"]}"#).hasPrefix("IDX_JSON weight_map found a list"))
  }

  // MARK: tables

  @Test func aTableFindsWhatWasPutIn() {
    var table = NameTable()
    let names =
      (0..<3000).map { "model.layers.\($0 % 61).mlp.experts.\($0).w" } + ["", "é", "a", "ab", "abcdefgh"]
    for (number, name) in names.enumerated() {
      let hash = NameTable.hash(name)
      #expect(table.find(hash) { names[$0] == name } == nil)
      table.insert(hash, number)
    }
    #expect(table.count == names.count)
    for (number, name) in names.enumerated() {
      #expect(table.find(NameTable.hash(name)) { names[$0] == name } == number)
    }
    #expect(table.find(NameTable.hash("e\u{301}")) { names[$0] == "e\u{301}" } == 3001)
    #expect(table.find(NameTable.hash("b")) { names[$0] == "b" } == nil)
    table.renumber { names.count - 1 - $0 }
    #expect(table.find(NameTable.hash("a")) { names[names.count - 1 - $0] == "a" } == 2)
  }

  @Test func bytesAreComparedAsListsAre() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<4000 {
      // Of every length, with a common beginning of every length.
      let common = (0..<Int.random(in: 0...20, using: &random)).map { _ in UInt8.random(in: 0...255) }
      let (a, b) = (
        common + (0..<Int.random(in: 0...3)).map { _ in UInt8.random(in: 0...255) },
        common + (0..<Int.random(in: 0...3)).map { _ in UInt8.random(in: 0...255) }
      )
      a.withUnsafeBytes { x in
        b.withUnsafeBytes { y in
          #expect(x.holdsSame(as: y) == (a == b))
          #expect(x.precedes(y) == a.lexicographicallyPrecedes(b), "\(a) \(b)")
        }
      }
    }
  }

  @Test func aNameIsFoundInTwoPieces() throws {
    let header =
      #"{"m.w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"m.w_scale_inv":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"é.w":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#
    writeRaw(folder.file("model.safetensors"), file(header, dataCount: 3))
    let source = try SafetensorsDirectory(path: folder.path)
    let start = try #require(source.tensor("m.w")).offset
    #expect(source.tensor("m.w", ending: "_scale_inv")?.offset == start + 1)
    #expect(source.tensor("m", ending: ".w")?.offset == start && source.tensor("", ending: "m.w") != nil)
    #expect(source.tensor("m.w", ending: "")?.offset == start && source.tensor("", ending: "") == nil)
    #expect(source.tensor("m.w", ending: "_scale") == nil && source.tensor("m.w_", ending: "m.w") == nil)
    #expect(source.tensor("e\u{301}", ending: ".w")?.offset == start + 2)
  }

  @Test func aSetHasEachTensorOnce() {
    // Two files of many tensors, and one of a single tensor.
    let tables = [500, 130].map { count in
      TensorTable(
        TensorFile("/x/y.safetensors"), Bytes([]), dataStart: 0,
        (0..<count).map {
          TensorTable.Row(
            name: "x.\($0)", dtype: .u8, shape: [0], begin: 0, end: 0, place: 0, offsetsPlace: 0,
            hash: NameTable.hash("x.\($0)"))
        })
    }
    let (first, second) = (tables[0].tensors, tables[1].tensors)
    let single = tensor("x.0")
    var set = TensorSet([first[0], first[64], second[129], first[0]])
    #expect(set.contains(first[0]) && set.contains(first[64]) && set.contains(second[129]))
    #expect(!set.contains(first[1]) && !set.contains(second[0]) && !set.contains(single))
    let other = TensorSet(first)
    #expect(!set.isSubset(of: other) && !other.isSubset(of: set) && TensorSet().isSubset(of: set))
    #expect(TensorSet(first[3..<70]).isSubset(of: other) && !TensorSet([single]).isSubset(of: other))
    set.formUnion(other)
    #expect(other.isSubset(of: set) && set.contains(first[499]) && set.contains(second[129]))
    #expect(!other.contains(second[129]) && !set.contains(second[128]))
    set.insert(single)
    #expect(set.contains(single) && !other.contains(single))
  }

  @Test func endingsAreThoseOfLastParts() {
    let file = TensorFile("/x/y.safetensors")
    #expect(file.name == "y.safetensors")
    let names = ["a.weight_packed", "b.c.weight", "experts.gate_blocks", "plain"]
    let tensors = names.map {
      TensorInfo(name: $0, dtype: .u8, shape: [0], in: file, offset: 0, bytes: Bytes([]))
    }
    let endings = NameEndings(tensors)
    for (ending, expected) in [
      ("weight_packed", true), ("_blocks", true), ("weight", true), ("plain", true), ("qweight", false),
      ("lain", true), ("b.c.weight", false), ("xplain", false),
    ] { #expect(endings.mayHold(ending) == expected, "\(ending)") }
    let many = (0..<500).map {
      TensorInfo(name: "t.\($0)", dtype: .u8, shape: [0], in: file, offset: 0, bytes: Bytes([]))
    }
    #expect(NameEndings(many).mayHold("anything"))
  }
}
