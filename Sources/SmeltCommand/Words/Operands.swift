// Operands and options that name a result.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// The result by an option, for those who look for one.
struct OutputOption: ParsableArguments {
  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("The result, in place of its operand.", valueName: "path"), completion: .file())
  var output: String?

  /// The result of the option or of its operand.
  /// - Throws: `ValidationError` for none, `RequestError` usage for both.
  func path(_ operand: String?, _ name: String = "result") throws -> String {
    guard output == nil || operand == nil else {
      throw OutputOption.twice(name, operand ?? "", "--output", output ?? "")
    }
    guard let path = output ?? operand else { throw ValidationError("missing the operand <\(name)>") }
    return path
  }

  /// What is said where an operand and an option name the same thing.
  static func twice(_ name: String, _ operand: String, _ option: String, _ value: String) -> RequestError {
    RequestError(
      .usage, "the \(name) is '\(operand)' and, by \(option), '\(value)'", help: "give one of them")
  }
}

/// The result, and the scheme behind it, as llama-quantize takes it.
struct ResultOperands: ParsableArguments {
  @Argument(help: "The result: NAME.ingot, NAME.gguf, or a folder for safetensors.", completion: .file())
  var result: String?
  @Argument(
    help: ArgumentHelp("The scheme, in place of --scheme, as in MODEL OUT.gguf Q4_K_M.", valueName: "scheme"),
    completion: .list(SchemeName.all.map(\.name)))
  var word: String?
  @OptionGroup var option: OutputOption

  /// The path of the result.
  private(set) var path = ""

  enum CodingKeys: CodingKey { case result, word, option }

  /// Sorts the operands.
  /// - Parameter scheme: what --scheme says.
  /// - Returns: the scheme.
  /// - Throws: `RequestError` usage, `ValidationError`.
  mutating func settle(_ scheme: String?) throws -> String? {
    var operands = [result, word].compactMap { $0 }
    if option.output == nil {
      path = try option.path(operands.first)
      operands = Array(operands.dropFirst())
    } else {
      path = option.output ?? ""
    }
    guard operands.count < 2 else {
      throw OutputOption.twice("result", operands[0], "--output", path)
    }
    guard let operand = operands.first else {
      guard scheme == nil, option.output == nil else { return scheme }
      if let refusal = SchemeName.refusal(ofResult: path) { throw refusal }
      guard SchemeName.isKnown(path) else { return scheme }
      throw RequestError(
        .usage, "'\(path)' is a scheme, and there is no result",
        help: "name the result before it: MODEL OUT.gguf \(path)")
    }
    guard option.output == nil || SchemeName.isKnown(operand) else {
      throw OutputOption.twice("result", operand, "--output", path)
    }
    guard scheme == nil || scheme == operand else {
      throw OutputOption.twice("scheme", operand, "--scheme", scheme ?? "")
    }
    return operand
  }
}
