Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.BlasTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Blas, Machine, Outcome}

  @moduletag :tmp_dir
  @fast %{matmul: 71.25, elementwise: 3.0}
  @slow %{matmul: 4.5, elementwise: 2.0}

  test "judges by the measurement and explains with the names", %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    facts = Machine.facts(machine)
    source = %{files: %{origin: :source}}
    File.write!(Path.join(machine.priv, "libopenblas.so.0"), "")
    mac = put_in(machine.host.os, "macos")
    openblas = "/app/priv/libopenblas.so.0"
    debian = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3"
    reference = "/usr/lib/libblas-bd8a282c.so.3.10.0"
    expected = {"expected", "6.0 times an element-wise pass, or more"}
    actual = {"actual", "2.3 times"}
    slow = "4.5 GFLOP/s, as slow as the reference BLAS"

    cases = [
      {machine, facts, [openblas], @fast, Outcome.ok("OpenBLAS, 71.3 GFLOP/s")},
      {machine, facts, [debian, openblas], @fast, Outcome.ok("OpenBLAS, 71.3 GFLOP/s")},
      {machine, facts, [openblas, reference], @fast,
       Outcome.ok("OpenBLAS and reference BLAS, 71.3 GFLOP/s")},
      {machine, facts, ["/opt/libmkl_rt.so.2"], @fast, Outcome.ok("MKL, 71.3 GFLOP/s")},
      {machine, facts, [], @fast, Outcome.ok("a BLAS inside libmlx, 71.3 GFLOP/s")},
      {mac, facts, [], @fast, Outcome.ok("Accelerate, 71.3 GFLOP/s")},
      {machine, facts, [reference], @slow,
       Outcome.warning("reference BLAS, #{slow}", "unset LD_PRELOAD LD_LIBRARY_PATH",
         details: [{"mapped", reference}, expected, actual]
       )},
      {machine, facts, [openblas], @slow,
       Outcome.warning("OpenBLAS, #{slow}", "report it: https://github.com/ausimian/emily/issues",
         details: [{"mapped", openblas}, expected, actual]
       )},
      {machine, source, [openblas, reference], @slow,
       Outcome.warning("OpenBLAS and reference BLAS, #{slow}", "unset LD_PRELOAD LD_LIBRARY_PATH",
         details: [{"mapped", openblas}, {"mapped", reference}, expected, actual]
       )},
      {machine, source, [openblas], @slow,
       Outcome.warning("OpenBLAS, #{slow}", "cargo xtask mlx --force && cargo xtask nif",
         details: [{"mapped", openblas}, expected, actual]
       )}
    ]

    for {machine, facts, paths, rates, expected} <- cases do
      machine = %{
        machine
        | mapped_libraries: fn -> ["/src/openblas/priv/libmlx.so" | paths] end,
          matmul_rates: fn -> rates end
      }

      assert Blas.run(machine, facts) == expected
    end
  end
end
