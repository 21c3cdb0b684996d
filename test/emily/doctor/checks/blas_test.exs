Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.BlasTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Blas, Machine, Outcome}

  @moduletag :tmp_dir
  @fast %{matmul: 71.25, elementwise: 3.0}
  @slow %{matmul: 4.5, elementwise: 2.0}

  test "judges by the measurement and explains with the names", %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    mac = put_in(machine.host.os, "macos")
    openblas = "/app/priv/libopenblas.so.0"
    debian = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3"
    reference = "/usr/lib/libblas-bd8a282c.so.3.10.0"
    next = "mix deps.compile emily --force"
    expected = {"expected", "6.0 times an element-wise pass, or more"}
    actual = {"actual", "2.3 times"}
    slow = "4.5 GFLOP/s, as slow as the reference BLAS"

    cases = [
      {machine, [openblas], @fast, Outcome.ok("OpenBLAS, 71.3 GFLOP/s")},
      {machine, [debian, openblas], @fast, Outcome.ok("OpenBLAS, 71.3 GFLOP/s")},
      {machine, [openblas, reference], @fast,
       Outcome.ok("OpenBLAS and reference BLAS, 71.3 GFLOP/s")},
      {machine, ["/opt/libmkl_rt.so.2"], @fast, Outcome.ok("MKL, 71.3 GFLOP/s")},
      {machine, [], @fast, Outcome.ok("a BLAS inside libmlx, 71.3 GFLOP/s")},
      {mac, [], @fast, Outcome.ok("Accelerate, 71.3 GFLOP/s")},
      {machine, [reference], @slow,
       Outcome.warning("reference BLAS, #{slow}", next,
         details: [{"mapped", reference}, expected, actual]
       )},
      {machine, [openblas], @slow,
       Outcome.warning("OpenBLAS, #{slow}", next,
         details: [{"mapped", openblas}, expected, actual]
       )}
    ]

    for {machine, paths, rates, expected} <- cases do
      machine = %{
        machine
        | mapped_libraries: fn -> ["/lib/libc.so.6" | paths] end,
          matmul_rates: fn -> rates end
      }

      assert Blas.run(machine, %{}) == expected
    end
  end
end
