// The JSON scanner: what it takes, what it refuses and where, and that its own text reads back.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct JSONTests {
  @Test func keepsOrderAndPlaces() throws {
    let json = try JSON.scan(#"  {"z": [1, -2.5, "x"], "a": {"t": true, "f": false, "n": null}} "#)
    let object = try #require(json.object)
    #expect(json.offset == 2)
    #expect(object.keys == ["z", "a"])
    #expect(object.values.map(\.offset) == [8, 29])
    #expect(json["z"]?.array?.map(\.offset) == [9, 12, 18])
    #expect(json["z"]?.array?[0].integer == 1)
    #expect(json["z"]?.array?[1].double == -2.5)
    #expect(json["z"]?.array?[1].integer == nil)
    #expect(json["z"]?.array?[2].string == "x")
    #expect(json["a"]?["t"]?.bool == true && json["a"]?["f"]?.bool == false)
    #expect(json["a"]?["n"]?.isNull == true)
    #expect(json["b"] == nil)
  }

  @Test(arguments: [
    (#""plain""#, "plain"), (#""""#, ""), (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"),
    (#""\u0041\u00e9\u4E2d""#, "Aé中"), (#""\ud83d\ude00""#, "\u{1F600}"), (#""é中😀""#, "é中😀"),
    (#""\u0000""#, "\0"), (#""a\u0062c""#, "abc"), ("\"\u{7F}\"", "\u{7F}"),
  ])
  func readsStrings(_ text: String, _ expected: String) throws {
    let string = try #require(try JSON.scan(text).string)
    #expect(Array(string.unicodeScalars) == Array(expected.unicodeScalars))
  }

  @Test(arguments: [
    ("0", 0), ("-0", 0), ("7", 7), ("-12", -12), ("9223372036854775807", Int.max),
    ("-9223372036854775808", Int.min), ("4.0", 4), ("1e3", 1000), ("25E-1", nil),
    ("9223372036854775808", nil),
    ("1e999", nil), ("-1e999", nil), ("0.5", nil),
  ])
  func readsWholeNumbers(_ text: String, _ expected: Int?) throws {
    #expect(try JSON.scan(text).integer == expected)
  }

  @Test(arguments: [("0.1", 0.1), ("-1.5e-3", -0.0015), ("1E+2", 100), ("3", 3), ("1e-999", 0), ("-0", -0.0)])
  func readsNumbers(_ text: String, _ expected: Double) throws {
    let number = try #require(try JSON.scan(text).double)
    #expect(number == expected && number.sign == expected.sign)
  }

  @Test(arguments: [
    ("", 0), ("   ", 3), ("{", 1), ("[", 1), ("[1", 2), ("[1,", 3), ("[1,]", 3), ("[,1]", 1), ("{\"a\"", 4),
    ("{\"a\":}", 5), ("{\"a\":1,}", 7), ("{a:1}", 1), ("{\"a\" 1}", 5), ("{1:2}", 1), ("[1 2]", 3),
    ("[1}", 2),
    ("{\"a\":1]", 6), ("nul", 0), ("True", 0), ("tru", 0), ("NaN", 0), ("Infinity", 0), ("+1", 0), ("-", 1),
    ("01", 0), ("-01", 1), ("1.", 2), (".5", 0), ("1e", 2), ("1e+", 3), ("0x10", 1), ("1 1", 2), ("{} x", 3),
    ("'a'", 0), ("\"a", 0), ("\"a\\", 3), ("\"\\q\"", 2), ("\"\\u12\"", 3), ("\"\\u12G4\"", 5),
    ("\"\u{1}\"", 1), ("\"a\nb\"", 2), ("// c\n1", 0), ("[1]//", 3),
  ])
  func refusesWithThePlace(_ text: String, _ offset: Int) throws {
    let error = try #require(throws: JSONError.self) { try JSON.scan(text) }
    #expect(error.kind == .syntax)
    #expect(error.offset == offset, "\(error.problem)")
  }

  @Test(arguments: [
    #""\ud800""#, #""\ud800x""#, #""\ud800\n""#, #""\udc00""#, #""\ud800\ud800""#, #""\ud83d\u0041""#,
  ])
  func refusesHalfSurrogates(_ text: String) throws {
    #expect(try #require(throws: JSONError.self) { try JSON.scan(text) }.kind == .syntax)
  }

  @Test(
    arguments: [
      [0xFF], [0xC0, 0xAF], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82], [0x80],
    ] as [[UInt8]])
  func refusesWhatIsNotUTF8(_ bytes: [UInt8]) throws {
    for tail in ["", "\\n"] {
      let text = [0x22] + bytes + Array(tail.utf8) + [0x22]
      let error = try #require(throws: JSONError.self) { try JSON.scan(Bytes(text)) }
      #expect(error.kind == .syntax && error.offset == 1)
    }
  }

  @Test func refusesAKeyTwice() throws {
    let error = try #require(throws: JSONError.self) { try JSON.scan(#"{"a":1,"b":{"c":1,"\u0063":2}}"#) }
    #expect(error.kind == .duplicateKey && error.offset == 18)
    // Also beyond the length up to which keys are compared one by one.
    let members = (0..<40).map { "\"k\($0)\":0" }.joined(separator: ",")
    #expect(try JSON.scan("{\(members)}").object?.count == 40)
    #expect(throws: JSONError.self) { try JSON.scan("{\(members),\"k0\":1}") }
    #expect(throws: JSONError.self) { try JSON.scan("{\(members),\"k39\":1}") }
  }

  @Test func boundsDepthAndSize() throws {
    let limits = JSONLimits(depth: 3, values: 5)
    #expect(try JSON.scan("[[[]]]", limits: limits).array?.count == 1)
    let deep = try #require(throws: JSONError.self) { try JSON.scan("[[[1]]]", limits: limits) }
    #expect(deep.kind == .limit && deep.offset == 3)
    #expect(try JSON.scan("[1,2,3,4]", limits: limits).array?.count == 4)
    let large = try #require(throws: JSONError.self) { try JSON.scan("[1,2,3,4,5]", limits: limits) }
    #expect(large.kind == .limit && large.offset == 9)
    // A file of brackets must not exhaust the stack.
    let brackets = Bytes([UInt8](repeating: 0x5B, count: 1_000_000))
    #expect(try #require(throws: JSONError.self) { try JSON.scan(brackets) }.kind == .limit)
  }

  @Test func handsMembersOver() throws {
    var found: [(String, Int, Int?)] = []
    let text = Bytes(Array(#" {"a": 1 , "a":[2,3],"b":{"x":4}} "#.utf8))
    try JSON.scanMembers(text) { key, offset, value in found.append((key, offset, value.integer)) }
    #expect(found.map(\.0) == ["a", "a", "b"])
    #expect(found.map(\.1) == [2, 11, 21])
    #expect(found.map(\.2) == [1, nil, nil])
    var count = 0
    try JSON.scanMembers(Bytes(Array("{}".utf8))) { _, _, _ in count += 1 }
    #expect(count == 0)
  }

  /// `scanMembers` refuses what `scan` refuses, with the same place, apart from the outermost duplicates.
  @Test(arguments: [
    "", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{} {}", "{\"a\":1]",
    "{,}",
    "{\"a\":{\"b\":1,\"b\":2}}", "{\"a\":[[[1]]]}",
  ])
  func membersAreAsStrict(_ text: String) throws {
    let limits = JSONLimits(depth: 3, values: 100)
    let bytes = Bytes(Array(text.utf8))
    let error = try #require(throws: JSONError.self) {
      try JSON.scanMembers(bytes, limits: limits) { _, _, _ in }
    }
    if let other = #expect(throws: JSONError.self, performing: { try JSON.scan(bytes, limits: limits) }) {
      #expect(error.kind == other.kind && error.offset == other.offset)
    }
  }

  @Test(arguments: ["[]", "1", "\"a\"", "null"]) func membersAreOfAnObject(_ text: String) throws {
    let error = try #require(throws: JSONError.self) {
      try JSON.scanMembers(Bytes(Array(text.utf8))) { _, _, _ in }
    }
    #expect(error.kind == .syntax && error.offset == 0)
  }

  /// Values per member, not per document: a header of a million tensors is no tree of ten million values.
  @Test func memberLimitsStartAgain() throws {
    let limits = JSONLimits(depth: 4, values: 3)
    try JSON.scanMembers(Bytes(Array("{\"a\":[1,2],\"b\":[1,2],\"c\":[1,2]}".utf8)), limits: limits) {
      _, _, _ in
    }
    #expect(throws: JSONError.self) {
      try JSON.scanMembers(Bytes(Array("{\"a\":[1,2,3]}".utf8)), limits: limits) { _, _, _ in }
    }
  }

  @Test func textReadsBack() throws {
    let value: JSON = [
      "s": "a\"b\\c\n\t\u{1}\u{7F}é😀", "i": -3, "big": .init(Int.max), "d": 0.1, "t": true, "e": [], "o": [:],
      "l": [1, [2, 3], ["k": "v"]],
    ]
    for indented in [false, true] {
      let text = value.text(indented: indented)
      let again = try JSON.scan(text)
      #expect(again.text() == value.text())
      #expect(again["s"]?.string == value["s"]?.string && again["big"]?.integer == Int.max)
    }
    #expect((["a": [1, 2]] as JSON).text() == #"{"a":[1,2]}"#)
  }

  /// A number beyond a Double is infinite to whoever computes with it; as text it stays a number.
  @Test(arguments: [("1e999", "1e999"), ("-1e999", "-1e999"), ("1e-999", "0.0"), ("-0", "-0.0")])
  func extremeNumbersReadBack(_ text: String, _ written: String) throws {
    let value = try JSON.scan(text)
    #expect(value.text() == written)
    #expect(try JSON.scan(value.text()).double == value.double)
  }

  /// Every prefix and 3,000 changed bytes of a good text: an error or a value, never a trap.
  @Test func damagedTextNeverTraps() throws {
    let good = Array(
      #"{"a":{"dtype":"F8_E4M3","shape":[2048,4096],"data_offsets":[0,8388608]},"\u00e9\ud83d\ude00":[-1.5e3,null,true]}"#
        .utf8)
    #expect(throws: Never.self) { try JSON.scan(Bytes(good)) }
    for count in 0..<good.count {
      #expect(throws: JSONError.self) { try JSON.scan(Bytes(Array(good[..<count]))) }
    }
    var generator = Generator(seed: 11)
    var refused = 0
    for _ in 0..<3000 {
      var mutant = good
      mutant[Int.random(in: 0..<good.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      do {
        _ = try JSON.scan(Bytes(mutant))
      } catch {
        refused += 1
        #expect(error.offset <= mutant.count)
      }
    }
    #expect(refused > 500)
  }
}
