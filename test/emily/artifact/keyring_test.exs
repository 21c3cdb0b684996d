defmodule Emily.Artifact.KeyringTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact
  alias Emily.Artifact.{Keyring, NoReleaseKeyError, Signature, SignatureError}

  @golden "test/golden/keyring.json"

  # `cargo xtask` answers alike: xtask/tests/distribution/keyring.rs reads the same file.
  test "signatures are believed as recorded" do
    golden = @golden |> File.read!() |> JSON.decode!()
    assert length(golden["cases"]) >= 15

    for recorded <- golden["cases"] do
      assert_as_recorded(recorded["refusal"], answer(recorded, golden), recorded["name"])
    end
  end

  defp answer(recorded, golden) do
    with {:ok, keyring} <- Keyring.decode(JSON.encode!(recorded["keys"])),
         {:ok, _key} <-
           Keyring.verify(
             keyring,
             golden["sidecar"],
             recorded["signature"],
             golden["asset"] <> ".sha256",
             recorded["version"]
           ) do
      nil
    else
      {:error, error} -> "expected #{error.expected}, got: #{error.actual}"
    end
  end

  defp assert_as_recorded(true, answer, name), do: assert(answer, name)
  defp assert_as_recorded(refusal, answer, name), do: assert({name, answer} == {name, refusal})

  test "a package without a key says so" do
    for text <- [nil, ReleaseFactory.keys([])] do
      assert {:error, %NoReleaseKeyError{} = error} = Keyring.decode(text)

      assert Exception.message(error) == """
             could not install Emily's native library: this copy of Emily carries no release key

               path  release/keys.json

             Depend on a published version of Emily, or build it: `cargo xtask nif` in a checkout of https://github.com/ausimian/emily.\
             """
    end
  end

  test "a damaged list says what is wrong with it" do
    assert {:error, %SignatureError{} = error} = Keyring.decode("keys")

    assert Exception.message(error) == """
           could not trust release/keys.json

             expected  a list of keys, schema 1
             actual    "keys"

           Do not go around it: run `mix compile` to try again, and report it if it repeats.\
           """
  end

  test "this package's own keys are those of its file" do
    assert Keyring.release() == Keyring.decode(File.read!("release/keys.json"))
  end

  describe "an install" do
    # The old key signs what comes before this version, the new one this version and later ones.
    setup context do
      {old, new} = {context.key, ReleaseFactory.key()}
      version = context.artifact.version

      {:ok, keyring} =
        Keyring.decode(
          ReleaseFactory.keys([
            ReleaseFactory.key_entry(old.public, before: version),
            ReleaseFactory.key_entry(new.public, from: version)
          ])
        )

      %{old: old, new: new, keyring: keyring}
    end

    test "takes what the new key signed", %{new: new, keyring: keyring} = context do
      archive = ReleaseFactory.archive(context.artifact, context.files)
      HttpServer.serve(context.server, ReleaseFactory.publish(context.artifact, archive, new))
      assert {:ok, _manifest} = install(context, keyring: keyring)
      assert installed(context) == context.files
    end

    test "refuses what the old key signs for this version", context do
      assert {:error, %SignatureError{} = error} = install(context, keyring: context.keyring)
      version = context.artifact.version

      assert Exception.message(error) == """
             could not trust #{Artifact.sidecar(context.artifact)}

               url       #{context.server.url}#{Artifact.signature(context.artifact)}
               expected  a signature by a key for version #{version}
               actual    one by the key #{Signature.id(context.old.public.id)}, which is for versions from 0.0.0-0 and before #{version}

             Do not go around it: run `mix compile` to try again, and report it if it repeats.\
             """

      assert installed(context) == %{}
    end

    test "offline, believes the cache only while its key is in use", context do
      %{old: old, server: server} = context
      assert {:ok, _manifest} = install(context)
      HttpServer.stop(server)
      assert {:ok, _manifest} = install(context)
      entry = ReleaseFactory.key_entry(old.public, retired: "lost")
      {:ok, keyring} = Keyring.decode(ReleaseFactory.keys([entry]))
      assert {:error, %Artifact.HttpError{}} = install(context, keyring: keyring)
    end
  end
end
