defmodule Emily.Doctor.Checks.Fusion do
  @moduledoc """
  Whether MLX can fuse operations on the CPU.

  There MLX compiles a fused kernel with the host's `g++` at run time, through a pipe whose end it
  waits for. A VM that ignores SIGCHLD, as the BEAM does by default, never sees it end; MLX then
  takes the compiler for absent and runs the operations one by one: same results, more passes over
  memory. So that state is reported and is not a problem, and a missing compiler is one only where
  it would be used.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.Outcome

  @impl true
  def run(environment, _facts) do
    case {environment.sigchld.(), environment.compiler.()} do
      {:ignored, compiler} ->
        Outcome.ok("off on the CPU: this VM ignores SIGCHLD (#{shown(compiler)})")

      {_seen, nil} ->
        Outcome.warning("off on the CPU: #{shown(nil)}", install(environment))

      {:default, compiler} ->
        Outcome.ok("on, with #{compiler}")

      {:unknown, compiler} ->
        Outcome.ok("on if this VM heeds SIGCHLD, with #{compiler}")
    end
  end

  defp shown(nil), do: "g++ is not in PATH"
  defp shown(compiler), do: compiler

  defp install(%{host: %{os: "macos"}}), do: "xcode-select --install"
  defp install(_environment), do: "sudo apt-get install g++"
end
