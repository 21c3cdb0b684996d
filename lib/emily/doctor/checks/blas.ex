defmodule Emily.Doctor.Checks.Blas do
  @moduledoc """
  Whether the CPU's matrix products run on a BLAS worth the name.

  The name of the library alone does not tell: a distribution calls many things `libblas.so.3`,
  two can be mapped at once, and Accelerate has no file. So a product is timed, and since absolute
  rates say more about the machine than about the library, it is set against an element-wise pass
  timed in the same run. A tuned product reuses what it has in registers and caches, which no
  element-wise pass can: OpenBLAS did 25 to 30 times as many operations a second, the reference
  BLAS 2 to 3 times as many. The line is drawn between the two with room on either side, nearer to
  the reference, because narrower vectors than those measured gain a tuned product less.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.{Environment, Outcome}

  @least_ratio 6.0

  @libraries ~r/^lib(openblas|mkl|blis|[st]?atlas|c?blas)/

  # The first that matches a library's name and its folder's.
  @names [
    {~r/openblas/, "OpenBLAS"},
    {~r/mkl/, "MKL"},
    {~r/blis/, "BLIS"},
    {~r/atlas/, "ATLAS"},
    {~r/blas/, "reference BLAS"}
  ]

  @impl true
  def run(environment, %{files: files}) do
    paths = environment.mapped_libraries.() |> Enum.filter(&(Path.basename(&1) =~ @libraries))
    names = paths |> Enum.map(&name/1) |> Enum.uniq()
    rates = environment.matmul_rates.()
    ratio = rates.matmul / rates.elementwise
    message = "#{shown(names, environment)}, #{decimal(rates.matmul)} GFLOP/s"

    if ratio >= @least_ratio do
      Outcome.ok(message)
    else
      Outcome.warning(
        message <> ", as slow as the reference BLAS",
        next(environment, files, paths),
        details:
          Enum.map(paths, &{"mapped", &1}) ++
            [{"expected", "#{decimal(@least_ratio)} times an element-wise pass, or more"}] ++
            [{"actual", "#{decimal(ratio)} times"}]
      )
    end
  end

  # What the loader was told to put before the installed BLAS is the machine's to remove.
  defp next(environment, files, paths) do
    cond do
      Enum.any?(paths, &foreign?(&1, environment)) -> "unset LD_PRELOAD LD_LIBRARY_PATH"
      files.origin == :source -> "cargo xtask mlx --force && cargo xtask nif"
      true -> Environment.report()
    end
  end

  # By name: the loader resolves links, so the folder may be spelled in another way.
  defp foreign?(path, %{priv: priv}), do: not File.exists?(Path.join(priv, Path.basename(path)))

  # The folder counts, since Debian's OpenBLAS is .../openblas-pthread/libblas.so.3, but no folder
  # above it, where a project may be called anything.
  defp name(path) do
    place = path |> Path.split() |> Enum.take(-2) |> Path.join()
    Enum.find_value(@names, fn {pattern, name} -> if place =~ pattern, do: name end)
  end

  defp shown([], %{host: %{os: "macos"}}), do: "Accelerate"
  defp shown([], _environment), do: "a BLAS inside libmlx"
  defp shown(names, _environment), do: Enum.join(names, " and ")

  defp decimal(number), do: :erlang.float_to_binary(number / 1, decimals: 1)
end
