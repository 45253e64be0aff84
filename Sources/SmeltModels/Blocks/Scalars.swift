// Functions of one number that several blocks use; transcendental functions in double precision.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// 1 / (1 + e^-x).
func logistic(_ x: Float) -> Float { Float(1 / (1 + exp(-Double(x)))) }

/// ln(1 + e^x).
func softplus(_ x: Double) -> Double { x > 20 ? x : log1p(exp(x)) }

/// -e^x rounded to float32: the rate at which a state decays, from its logarithm.
func decayRate(_ logarithm: Float) -> Double { Double(Float(-exp(Double(logarithm)))) }
