defmodule Emily.Doctor.Checks.Fusion do
  @moduledoc """
  Whether `fuse: true` can fuse operations on the CPU, where a C++ compiler makes the kernels at run time.

  Without one, functions run operation by operation: same results, more passes over memory. GPUs need none.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.Outcome

  @impl true
  def run(environment, _facts) do
    case environment.compiler.() do
      nil ->
        Outcome.warning("fuse: true is off on the CPU: no C++ compiler", install(environment))

      compiler ->
        Outcome.ok("fuse: true works on the CPU, with #{compiler}")
    end
  end

  defp install(%{host: %{os: "macos"}}), do: "xcode-select --install"
  defp install(_environment), do: "sudo apt-get install g++, or set EMILY_CXX to another compiler"
end
