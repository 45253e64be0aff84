// Names, the published table and the document, held against the code.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct EncodingTableTests {
  /// Stable for ever: files hold these names.
  @Test func namesAreStable() {
    #expect(
      Encodings.all.map(\.name) == [
        "f32", "f16", "bf16", "f64", "i64", "i32", "i16", "i8", "stored.bool", "stored.u8", "stored.u16",
        "stored.u32", "stored.u64", "stored.c64", "stored.f8_e4m3", "stored.f8_e5m2", "stored.f8_e8m0",
        "stored.f8_e4m3fnuz", "stored.f8_e5m2fnuz", "f8_e4m3.tensor", "f8_e4m3.channel",
        "f8_e4m3.block",
        "f8_e5m2.tensor", "f8_e5m2.channel", "f8_e5m2.block", "int8.channel", "mxfp4", "nvfp4",
        "nvfp4.divided", "int8.tensor", "int8.group128", "int4.channel", "int4.group128",
        "int4.group128.zero", "int4.group128.zero.indexed",
        "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q8_1", "q1_0", "q2_0", "q2_k", "q3_k", "q4_k", "q5_k",
        "q6_k", "q8_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4.gguf", "nvfp4.gguf", "iq1_s", "iq1_m",
        "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s",
      ])
  }

  @Test func blockSizesAreReadFromNames() throws {
    let small = try #require(Encodings.named("f8_e5m2.block32x64") as? FP8)
    #expect(small == FP8(.e5m2, .block(rows: 32, columns: 64)))
    #expect(Encodings.named("f8_e4m3.block65536x1")?.name == "f8_e4m3.block65536x1")
    #expect(Encodings.named("f8_e4m3.block") as? FP8 == FP8(.e4m3, .block(rows: 128, columns: 128)))
    for name in [
      "", "f8_e4m3", "f8_e4m3.", "f8_e4m3.blocks", "f8_e4m3.block0x32", "f8_e4m3.block32x0",
      "f8_e4m3.block65537x1", "f8_e4m3.block1x65537", "f8_e4m3.block-1x32", "f8_e4m3.block32",
      "f8_e4m3.block32x",
      "f8_e4m3.blockx32", "f8_e4m3.block32x32x32", "f8_e4m3.block+32x32", "f8_e4m3.block032x32",
      "f8_e4m3.block128x128", "f8_e4m3.block 32x32", "f8_e4m3.block32X32", "F8_E4M3.block",
      "f8_e4m3.block99999999999999999999x1", "f8_e3m4.block", "int8", "mxfp4.block",
    ] {
      #expect(Encodings.named(name) == nil, "'\(name)'")
    }
  }

  @Test func groupLengthsAreReadFromNames() throws {
    let small = try #require(Encodings.named("int4.group32.indexed") as? GroupedIntegers)
    #expect(small == GroupedIntegers(.four, .group(32), isIndexed: true))
    for name in [
      "int8.group64.zero", "int4.group1", "int4.group65536.zero.indexed", "int4.tensor", "int8.channel.zero",
    ] { #expect(Encodings.named(name)?.name == name) }
    for name in [
      "int4", "int4.", "int4.group", "int4.group0", "int4.group65537", "int4.group032", "int4.group+32",
      "int4.group-32", "int4.group32.zeros", "int4.group32.indexed.zero", "int4.group32.zero.zero",
      "int4.channel.indexed", "int4.tensor.indexed", "int3.group32", "int8.channel.", "int8.block", "nvfp4.",
      "nvfp4.multiplied", "int4.group99999999999999999999",
    ] { #expect(Encodings.named(name) == nil, "'\(name)'") }
    #expect(Encodings.named("int8.channel") is INT8)
  }

  /// `Formats/tables/encodings.json` is what `Encodings.table()` prints, to the byte. After a wanted change,
  /// `SMELT_UPDATE=1 swift test --filter EncodingTable` writes it.
  @Test func thePublishedTableIsTheCodes() throws {
    let table = Encodings.table().text(indented: true) + "\n"
    if getenv("SMELT_UPDATE") != nil {
      try writeFile(formats("tables/encodings.json"), Array(table.utf8), overwrite: true)
    }
    let file = try MappedFile(path: formats("tables/encodings.json"))
    let published = String(decoding: file.bytes.array, as: UTF8.self)
    #expect(published == table, "Formats/tables/encodings.json should hold:\n\(table)")
    let entries = try #require(JSON.scan(published)["encodings"]?.array)
    #expect(entries.compactMap { $0["name"]?.string } == Encodings.all.map(\.name))
    let block = try #require(entries.first { $0["name"]?.string == "f8_e4m3.block" })
    #expect(block["matrix"]?["bytes"]?.integer == 192 * 160 + 2 * 2 * 4)
  }

  /// Each encoding has a row in the list of Formats/encodings.md, section 1, and each row has its encoding.
  @Test func theDocumentListsTheCodes() throws {
    let file = try MappedFile(path: formats("encodings.md"))
    let lines = String(decoding: file.bytes.array, as: UTF8.self).split(separator: "\n")
    let names = lines.compactMap { line -> String? in
      guard line.hasPrefix("| `") else { return nil }
      let name = line.dropFirst(3).prefix { $0 != "`" }
      return String(name)
    }
    #expect(names == Encodings.all.map(\.name))
    let headings = lines.filter { $0.hasPrefix("## ") }.map { $0.dropFirst(3).prefix { $0 != "." } }
    #expect(headings == (1...headings.count).map { "\($0)" }, "sections are numbered in order")
  }
}
