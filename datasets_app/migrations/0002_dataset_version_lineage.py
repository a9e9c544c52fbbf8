"""Versions say what they were made from and what their rows are like."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('datasets_app', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='datasetversion',
            name='changes',
            field=models.JSONField(default=dict, help_text="What was done to the parent's rows: rows_before, rows_after, and the fixes by code."),
        ),
        migrations.AddField(
            model_name='datasetversion',
            name='parent',
            field=models.ForeignKey(help_text='The version that this one was made from.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='children', to='datasets_app.datasetversion'),
        ),
        migrations.AddField(
            model_name='datasetversion',
            name='statistics',
            field=models.JSONField(default=dict, help_text='What the rows are like: lengths, repetitions, splits, labels.'),
        ),
    ]
