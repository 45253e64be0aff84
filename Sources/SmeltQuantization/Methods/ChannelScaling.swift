// The factors that AWQ and SmoothQuant give to input channels. Formats/methods.md, section 3.

package import SmeltStorage
package import SmeltTensors

/// A weight that reads a site's output and will be rounded: what it is, how it is rounded, and what it sees.
package struct ScalingReader: Sendable {
  /// The weight as it is.
  package let weight: Weight
  /// What rounds it.
  package let scheme: any Scheme
  /// How its scales are chosen; its importance is that of the unscaled inputs.
  package let options: QuantizeOptions
  /// Calibration tokens that it saw: an expert that many reach counts for more.
  package let tokens: Int

  /// A reader.
  package init(weight: Weight, scheme: any Scheme, options: QuantizeOptions, tokens: Int) {
    self.weight = weight
    self.scheme = scheme
    self.options = options
    self.tokens = tokens
  }

  /// Tokens × the square error of the weight's outputs ÷ their square, when its columns are multiplied by `factors`
  /// before rounding and divided after it.
  /// - Parameter moments: those of the inputs, or of what many inputs look like.
  func error(_ factors: [Float], _ moments: Hessian, parallel: Parallel) throws -> Double {
    let columns = weight.columns
    let scaled = try FoldFactors(divisors: nil, multipliers: factors).apply(weight)
    var options = options
    options.importance = options.importance?.divided(bySquaresOf: factors)
    let result = try scheme.quantize(scaled, options: options, parallel: parallel).weight
    var (error, whole) = (0.0, 0.0)
    let step = 256
    for first in stride(from: 0, to: weight.rows, by: step) {
      let rows = first..<min(weight.rows, first + step)
      let (a, b) = (weight.decode(rows: rows), result.decode(rows: rows))
      let changes = Matrix(rows: rows.count, columns: columns) { out in
        for index in a.indices { out[index] = b[index] / factors[index % columns] - a[index] }
      }
      error += moments.errors(changes, parallel: parallel).reduce(0, +)
      whole += moments.errors(
        Matrix(rows: rows.count, columns: columns, values: a), parallel: parallel
      ).reduce(0, +)
    }
    return Double(tokens) * error / max(whole, .leastNormalMagnitude)
  }
}

extension ImportanceView {
  /// The importances of inputs that were divided by `factors`.
  package func divided(bySquaresOf factors: [Float]) -> ImportanceView {
    ImportanceView(
      groups: groups, columns: columns,
      values: values.enumerated().map { $1 / (factors[$0 % columns] * factors[$0 % columns]) })
  }
}

/// Choosing factors for the channels between a giver and its readers.
package enum ChannelScaling {
  /// AWQ: s = x^α with x the root of the mean square of each channel, α the one of 0, 1/8 … 1 whose rounding costs the
  /// readers least; the geometric middle of s is 1. α = 0 leaves everything as it is.
  ///
  /// Source: Lin et al., "AWQ: Activation-aware Weight Quantization", 2023, section 3.2. The paper takes the mean
  /// magnitude for x; here the root of the mean square stands for it, which the statistics hold.
  /// - Returns: nil where α = 0 is best.
  package static func activationAware(
    _ meanSquare: [Float], _ moments: Hessian, _ readers: [ScalingReader], parallel: Parallel
  )
    throws
    -> (factors: [Float], exponent: Double)?
  {
    var best: (factors: [Float]?, exponent: Double, error: Double)?
    for step in 0...8 {
      let factors = step == 0 ? nil : factors(meanSquare.map { power(Double($0), sixteenths: step) })
      let ones = [Float](repeating: 1, count: meanSquare.count)
      let error = try readers.reduce(0.0) { try $0 + $1.error(factors ?? ones, moments, parallel: parallel) }
      if best == nil || error < best!.error { best = (factors, Double(step) / 8, error) }
    }
    guard let best, let factors = best.factors else { return nil }
    return (factors, best.exponent)
  }

  /// SmoothQuant: s = absmax(x)^α ÷ absmax(w)^(1 − α) with α = ½ for each channel, over all readers.
  ///
  /// Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
  /// 2022, equation 4. It moves the difficulty of rounding activations into the weights, for schemes that round both.
  package static func smooth(_ absmax: [Float], _ readers: [Weight]) -> [Float] {
    var largest = [Float](repeating: 0, count: absmax.count)
    for reader in readers {
      let columns = reader.columns
      for (index, value) in reader.decode().enumerated() {
        largest[index % columns] = max(largest[index % columns], abs(value))
      }
    }
    return factors(
      zip(absmax, largest).map { Double($0).squareRoot() / max(Double($1).squareRoot(), 1e-12) })
  }

  /// Factors with a geometric middle of 1 between the largest and the smallest; channels that see nothing get 1.
  private static func factors(_ raw: [Double]) -> [Float] {
    let used = raw.filter { $0 > 0 && $0.isFinite }
    guard let least = used.min(), let most = used.max() else { return raw.map { _ in 1 } }
    let middle = least.squareRoot() * most.squareRoot()
    return raw.map { value in
      guard value > 0, value.isFinite else { return 1 }
      return Float(min(1e4, max(1e-4, value / middle)))
    }
  }

  /// base^(sixteenths ÷ 16) by square roots alone, which every machine rounds alike.
  private static func power(_ base: Double, sixteenths: Int) -> Double {
    guard base > 0 else { return 0 }
    var (root, result) = (base, 1.0)
    for bit in [8, 4, 2, 1] {
      root = root.squareRoot()
      if sixteenths & bit != 0 { result *= root }
    }
    return result
  }
}
