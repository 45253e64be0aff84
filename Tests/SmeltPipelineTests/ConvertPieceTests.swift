// Matrices that are converted in several pieces, walked a few rows at a time: the same bytes, hashes and refusals as of whole ones.

import SmeltContainers
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ConvertPieceTests {
  private static let name = "model.layers.0.mlp.up_proj.weight"
  /// Two jobs of 4 MiB of INT8 codes, three of BF16, the cuts inside of rows and of blocks; a row is no whole number of chunks.
  private static let shape: Shape = [720, 6144]

  /// Normal numbers, some rows of which BF16, INT8 or FP8 codes hold exactly.
  private static func values(_ count: Int, columns: Int) -> [UInt8] {
    var generator = Generator(seed: 15)
    let normals = generator.normals(10_007, 0.02)
    var bytes = [UInt8](repeating: 0, count: 2 * count)
    for index in 0..<count {
      var value = normals[index % normals.count]
      if index / columns % 5 == 3 { value = Float(index % 15 - 7) * 0.5 }
      let code = UInt16(truncatingIfNeeded: value.bitPattern >> 16)
      (bytes[2 * index], bytes[2 * index + 1]) = (UInt8(code & 0xFF), UInt8(code >> 8))
    }
    return bytes
  }

  private func model(_ home: String, _ bytes: [UInt8]) throws -> Model {
    putFile(home + "/config.json", Array(#"{"model_type": "nosuch"}"#.utf8))
    try Variant.write(
      [
        Variant.Tensor(name: Self.name, dtype: .bf16, shape: Self.shape, bytes: bytes),
        Variant.Tensor(name: "norm.weight", dtype: .f32, shape: [2], bytes: [0, 0, 128, 63, 0, 0, 0, 64]),
      ], to: home + "/model.safetensors")
    return try Model.open(home)
  }

  /// What a whole weight gives, as one call of the scheme does, is what the pieces give, in every container and with any number of
  /// threads; the ledger has the hash of the source's bytes and counts the values that changed.
  @Test(arguments: ["keep", "int8-channel", "fp8-channel", "fp8-block", "fp8-tensor", "nvfp4", "int8-coded"])
  func piecesAreTheWhole(scheme: String) throws {
    let home = TemporaryFolder()
    let bytes = Self.values(Self.shape.count, columns: Self.shape.columns)
    let source = try model(home.path, bytes)
    let whole = try Weight(
      name: Self.name, shape: Self.shape, encoding: Plain.bf16,
      parts: [Part(.values, dtype: .bf16, shape: Self.shape, bytes: Bytes(bytes))])
    let used = try Schemes.named(scheme)
    let expected = try used.quantize(whole)
    var hashes: Set<String> = []
    for threads in [1, 2] {
      // Codes that are made for an entropy coder are not stored raw.
      for compression in scheme == "int8-coded" ? [CodecMode.fast] : [.fast, .raw] {
        var asked = try options(scheme, compression: compression)
        asked.run.parallel = Parallel(threads: threads)
        let work = TemporaryFolder()
        let summary = try convert(source, to: work.file("a.ingot"), asked)
        hashes.insert(summary.contentHash ?? "")
        let entry = try #require(summary.ledger.first { $0.weight?.contains("up_proj") == true })
        #expect(entry.sourceHash == hexadecimal(bytes.withUnsafeBytes { xxh64($0) }))
        #expect((entry.inexactValues ?? 0) == expected.report.inexactValues)
        let result = try Model.open(work.file("a.ingot"))
        let name = try #require(result.family.weights.first { $0.name.description.contains("up_proj") }).name
        let weight = try result.weights.weight(name)
        for (part, made) in zip(expected.weight.parts, weight.parts) {
          #expect(part.name == made.name && part.bytes.array == made.bytes.array, "\(part.name), \(threads)")
        }
      }
    }
    #expect(hashes.count == 1, "\(hashes)")
  }

  /// A number that is not finite is refused by row and column wherever it lies, kept or rounded.
  @Test(arguments: ["keep", "int8-channel", "q8_0", "bf16"], [0, 700_001, 4_300_000, 4_423_679])
  func whatIsNotFiniteIsRefusedInEveryPiece(scheme: String, place: Int) throws {
    let home = TemporaryFolder()
    var bytes = Self.values(Self.shape.count, columns: Self.shape.columns)
    (bytes[2 * place], bytes[2 * place + 1]) = (0xC1, 0x7F)
    let source = try model(home.path, bytes)
    let work = TemporaryFolder()
    for threads in [1, 2] {
      var asked = try options(scheme)
      asked.run.parallel = Parallel(threads: threads)
      let error = #expect(throws: FormatError.self) {
        _ = try convert(source, to: work.file("a.ingot"), asked)
      }
      #expect(error?.code == .codeNaN && error?.subject?.contains("up_proj") == true)
      let expected = "row \(place / Self.shape.columns), column \(place % Self.shape.columns) is nan"
      #expect(error?.problem.lowercased().hasPrefix(expected) == true, "\(error?.problem ?? "")")
      #expect(try namesInFolder(work.path).isEmpty)
    }
  }
}
