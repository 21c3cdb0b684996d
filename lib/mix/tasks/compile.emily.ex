defmodule Mix.Tasks.Compile.Emily do
  @shortdoc "Installs Emily's native library"

  @moduledoc """
  Puts the native library of Emily into `priv/`.
  """

  use Mix.Task.Compiler

  @impl true
  def run(_arguments) do
    :noop
  end
end
