// How codes and scales are chosen, as the command line says it.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// The options of methods that look at calibration inputs.
struct MethodFlags: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "How codes and scales are chosen: \(MethodOptions.methodNames). All but rtn need --calibration. Default: gptq where --calibration is given and weights become four bits (int4-group, nvfp4, mxfp4, q4_0 …), without a budget; else rtn.",
      valueName: "method"), completion: .list(MethodOptions.methods))
  var method: String?

  @Flag(inversion: .prefixedNo, help: "gptq: round the columns with the largest inputs first.")
  var actOrder = true

  @Option(
    name: .long,
    help: ArgumentHelp(
      "gptq: the share of the mean of the Hessian's diagonal added to it. Default: 0.03 for four bits, else 0.01.",
      valueName: "share"))
  var damping: Double?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What a layer sees while its weights are chosen: 'result' (the layers before it quantized) or 'source'.",
      valueName: "which"), completion: .list(["result", "source"]))
  var inputs: String = "source"

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Experts that fewer calibration tokens reach are rounded to nearest.", valueName: "tokens"))
  var methodTokens: Int = 32

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Rounds of refining codes and scales against the source's own outputs.", valueName: "rounds"))
  var distill: Int = 0

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "Choose schemes by measured sensitivity so that all files of the result together have at most this size, for example 140GB (\(sizeUnits)).",
      valueName: "size"), transform: byteSize)
  var targetSize: ByteSize?

  @Option(
    name: .long,
    help: ArgumentHelp("The same with a number of bits a parameter, for example 4.5.", valueName: "bits"))
  var bits: Double?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The schemes that a budget chooses from, with commas between them.", valueName: "schemes"))
  var candidates: String?

  @Option(
    name: .long, help: ArgumentHelp("Write the recipe that a budget chose.", valueName: "file"),
    completion: .file())
  var saveRecipe: String?

  func budget() throws -> Budget? {
    guard targetSize == nil || bits == nil else {
      throw ValidationError("give --target-size or --bits, not both")
    }
    let names = candidates?.split(separator: ",").map(String.init)
    if let targetSize { return Budget(.bytes(targetSize.bytes), candidates: names, recipePath: saveRecipe) }
    guard let bits else {
      guard candidates == nil, saveRecipe == nil else {
        throw ValidationError("--candidates and --save-recipe need --target-size or --bits")
      }
      return nil
    }
    guard bits > 0, bits <= 32 else { throw ValidationError("--bits is above 0 and at most 32") }
    return Budget(.bits(bits), candidates: names, recipePath: saveRecipe)
  }

  func options() throws -> MethodOptions {
    guard inputs == "result" || inputs == "source" else {
      throw ValidationError("--inputs is 'result' or 'source', found '\(inputs)'")
    }
    var options = try MethodOptions(named: method, damping: damping, ordersByActivation: actOrder)
    options.distillRounds = distill
    options.isSequential = inputs == "result"
    options.minTokens = methodTokens
    try options.check()
    return options
  }
}
