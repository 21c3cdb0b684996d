defmodule Emily.FolderSCM do
  @moduledoc """
  Lets Mix load dependencies from a folder of sources on a machine without Hex.

  Mix asks for the source of every dependency that a project names before it drops those of other
  environments, so a dependency's own `ex_doc` would make it ask for Hex. Here such a dependency
  gets a place in the folder, where nobody looks for it.
  """

  @behaviour Mix.SCM

  @doc """
  Nx, which records the test data, and what it needs; nothing without `EMILY_DEPS_PATH`, or where
  `EMILY_BARE` asks for nothing.
  """
  def deps, do: deps(System.get_env("EMILY_DEPS_PATH"), System.get_env("EMILY_BARE"))

  defp deps(_folder, bare) when bare in ["1", "true"], do: []
  defp deps(nil, _bare), do: []

  defp deps(folder, _bare) do
    if __MODULE__ not in Mix.SCM.available(), do: Mix.SCM.append(__MODULE__)

    for app <- [:complex, :telemetry, :nx],
        do: {app, path: Path.join(folder, "#{app}"), override: true, only: [:dev, :test]}
  end

  @impl true
  def accepts_options(app, opts) do
    folder = System.get_env("EMILY_DEPS_PATH")
    if folder, do: Keyword.put(opts, :dest, Path.expand(Path.join(folder, "#{app}")))
  end

  @impl true
  def fetchable?, do: false

  @impl true
  def format(opts), do: opts[:dest]

  @impl true
  def format_lock(_opts), do: nil

  @impl true
  def checked_out?(opts), do: File.dir?(opts[:dest])

  @impl true
  def checkout(opts), do: Mix.raise("expected the dependency's sources at #{opts[:dest]}")

  @impl true
  def update(opts), do: checkout(opts)

  @impl true
  def lock_status(_opts), do: :ok

  @impl true
  def equal?(one, other), do: one[:dest] == other[:dest]

  @impl true
  def managers(_opts), do: []
end
